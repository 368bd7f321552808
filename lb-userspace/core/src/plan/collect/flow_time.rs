//! The flow clock, by which entries of tables grow old.

use std::time::Duration;

/// The flow clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTime {
    /// What the dataplane writes beside flows that it sees now.
    pub now: u32,
    /// How long one unit of the clock is.
    pub unit: Duration,
}

impl FlowTime {
    /// The most units that an entry may have been silent for if it is remembered for `span`. This is one unit more than
    /// `span`, since entries are up to a unit older than they say, and a second more, since entries are renewed at most
    /// once a second.
    pub(in crate::plan) fn units(&self, span: Duration) -> u32 {
        let units = (span + Duration::from_secs(1)).as_nanos() / self.unit.as_nanos().max(1) + 1;
        u32::try_from(units).unwrap_or(u32::MAX / 2)
    }
}
