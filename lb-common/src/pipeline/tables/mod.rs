//! What the pipeline asks of its tables and of the host: a trait for each subject, so that a step can ask for no more than it
//! needs.

mod flows;
mod host;
mod nat;
mod quic;
mod services;

pub use flows::FlowTables;
pub use host::{Host, Route, RouteQuery};
pub use nat::{InsertOutcome, NatTables};
pub use quic::QuicTables;
pub use services::ServiceTables;

/// All of the tables, and the host.
pub trait Tables: ServiceTables + FlowTables + NatTables + QuicTables + Host {}

impl<T: ServiceTables + FlowTables + NatTables + QuicTables + Host> Tables for T {}
