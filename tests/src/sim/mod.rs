//! The simulation: do flows keep their backends while these come and go?
//!
//! What must hold: the packet path, the planner and the tables are the real ones; only time, clients and hosts are
//! simulated. Who owns a flow is known from where its first packet went, and asked of nobody.

mod balancer;
mod frame;
mod hosts;
mod services;
mod wheel;
