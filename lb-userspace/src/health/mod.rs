//! Heartbeats: asks backends whether they serve, and says when the answer changes.
//!
//! Invariant: a backend is only ever called down for what *it* did. Waiting for our own turn, running out of our own
//! file descriptors or being stopped ourselves repeats the check instead of failing it.
//!
//! [`Check`] is what the operator writes, [`Target`] one heartbeat (services that agree on address and check share
//! it), [`Judge`] the arithmetic of rise and fall, [`Engine`] what runs thousands of them.

mod check;
mod engine;
mod heartbeat;
mod judge;
mod probe;
mod raw;
mod report;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod turns;

pub use check::{Check, CheckError, Close, HttpCheck, Kind, Timing};
pub use engine::Engine;
pub use judge::{Judge, State};
pub use report::{Belief, Beliefs, FailureReport, Status, Target, Verdict};
pub use source::{Own, Sources};
pub use status::{ParseStatusError, StatusRange};
pub use turns::Lateness;
