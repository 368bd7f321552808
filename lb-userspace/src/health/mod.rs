//! Health checks: asks backends whether they serve, and says when the answer changes.
//!
//! Invariant: a backend is only ever called down for what *it* did. Waiting for our own turn, running out of our own
//! file descriptors or being stopped ourselves repeats the check instead of failing it.
//!
//! [`Check`](lb_check::Check) is what the operator writes, [`ProbeTarget`](lb_check::ProbeTarget) one health check (services that agree on address and check share
//! it), [`Judge`] the arithmetic of rise and fall, [`Engine`] what runs thousands of them.

mod asker;
mod engine;
mod health_check;
mod judge;
mod report;
mod source;
#[cfg(test)]
mod tests;
mod turns;

pub use engine::Engine;
pub use judge::{Health, Judge};
pub use report::{Belief, Beliefs, FailureReport, Status, Verdict};
pub use source::{OwnAddress, ProbeSources};
pub use turns::Lateness;
