//! What lb decides, and nothing that it does: from what the operator asked for ([`desired`]) and what is so
//! ([`observed`]) to slot tables ([`schedule`]) and to the writes that make the dataplane so ([`plan`]).
//!
//! Invariant: everything here is pure. There is no clock, no file, no socket and no task; what depends on time takes it
//! as a parameter.

pub mod desired;
pub mod observed;
pub mod plan;
pub mod schedule;
