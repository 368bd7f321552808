//! What is so: what the agent has seen of backends, ways and interfaces. No operator writes it.

mod drain;
mod macs;

pub use drain::DrainState;
pub use macs::InterfaceMacs;
