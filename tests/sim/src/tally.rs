//! What a run has counted.

use std::collections::BTreeMap;

use super::kinds::Kind;

/// What a run has counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) flows: u64,
    pub(super) packets: u64,
    pub(super) changes: BTreeMap<Kind, u64>,
    /// Flows of which a packet met another backend than their own, which lived.
    pub(super) breaks: u64,
    /// Flows that had been silent for longer than a window when a packet of theirs met another backend.
    pub(super) silent_breaks: u64,
    /// Flows that had been silent for longer than a window.
    pub(super) silent: u64,
    /// Flows that were over because their backend was: it failed, or the operator cut it off.
    pub(super) cut: u64,
    /// Flows that found no backend at first and tried again.
    pub(super) without_backend: u64,
    /// New flows that reached a backend which had been told to take none; of UDP's those after the window.
    pub(super) strays: u64,
    /// Flows that found no room in the flow table.
    pub(super) refused: u64,
    /// Flows that the slot tables alone would have broken.
    pub(super) stateless_breaks: u64,
    /// Flows that a rule without memory would have broken: SYNs to the current owner, all else to the previous one.
    pub(super) syn_rule_breaks: u64,
    /// The most entries in the flow table at any time, for each flow that was alive then.
    pub(super) peak_share: f64,
    /// Entries in the flow table for each flow alive, taken each second until the last change, all added; and how many
    /// seconds these were.
    pub(super) shares: (f64, u32),
    /// The most flows alive at a time.
    pub(super) most_live: u64,
}

impl Tally {
    /// The mean share of the flow table, for each flow that was alive.
    pub(super) fn mean_share(&self) -> f64 {
        let (sum, seconds) = self.shares;
        sum / f64::from(seconds.max(1))
    }

    /// Changes of all kinds.
    pub(super) fn all_changes(&self) -> u64 {
        self.changes.values().sum()
    }
}
