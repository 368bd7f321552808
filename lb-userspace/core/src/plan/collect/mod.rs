//! What ends in time: flows, windows and loans of slots, and the rest of what pools gave up.
//!
//! [`sweep`] looks after the flow table and the slots, [`pool_sweep`] is its part for one pool, and [`nat_flows`] looks
//! through the table of `fullnat` flows.
//!
//! Invariant: an entry is removed only if no packet needs it: its flow is over or goes the same way without it, or no
//! living backend serves it.

mod flow_time;
mod nat_flows;
mod pool_sweep;
mod sweep;

pub use flow_time::FlowTime;
pub use nat_flows::{Cause, EndedFlow, Moved, Translated, TranslationTable, Usage};
pub use sweep::Sweep;
