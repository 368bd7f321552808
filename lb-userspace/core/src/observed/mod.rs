//! What is so: what the agent has seen of backends, ways and interfaces. No operator writes it.

mod macs;

pub use macs::InterfaceMacs;
