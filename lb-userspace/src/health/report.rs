//! What a health check is called and what it says: its key, its verdicts, its standing.
//!
//! Invariant: equal targets are one health check; [`ProbeTarget::new`] brings every spelling of the same question to one form.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::Health;
use lb_check::ProbeTarget;

/// What is believed of a target before its first check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belief {
    /// [`Health::Up`] or [`Health::Down`].
    pub state: Health,
    /// The health check that asked the same until now: its results in a row count on.
    pub after: Option<ProbeTarget>,
}

/// What is believed of targets that nothing was asked of yet.
pub type Beliefs = HashMap<ProbeTarget, Belief>;

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The target whose state changed.
    pub target: ProbeTarget,
    /// [`Health::Up`] or [`Health::Down`].
    pub state: Health,
    /// Why it went down, in the operator's words; none when it came up.
    pub reason: Option<String>,
    /// When.
    pub at: SystemTime,
    /// How long the deciding check took.
    pub latency: Duration,
}

/// The status of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What is believed.
    pub state: Health,
    /// Since when.
    pub since: SystemTime,
    /// The last failed check; kept after recovery.
    pub last_failure: Option<FailureReport>,
    /// How long the last successful check took.
    pub latency: Option<Duration>,
    /// Results so far.
    pub checks: u64,
}

/// A failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureReport {
    /// Why, in the operator's words.
    pub reason: String,
    /// When.
    pub at: SystemTime,
}
