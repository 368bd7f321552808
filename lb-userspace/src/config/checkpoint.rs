//! The `[checkpoint]` table: how often the agent writes down what it would need to go on, and how much of that it keeps.
//!
//! Invariant: none of it changes while the agent runs; a new value takes effect at the next start.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::dataplane::within;
use lb_core::desired::{Invalid, Span};

/// How checkpoints are made and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// How many are kept.
    pub keep: u32,
    /// From one with flows to the next; states are saved with every change besides.
    pub every: Span,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            keep: 8,
            every: Span::of_seconds(60),
        }
    }
}

impl CheckpointConfig {
    /// What `keep` may be: two at least, so that there is one before the newest.
    pub const KEEP: RangeInclusive<u32> = 2..=1000;

    /// Checks every rule of this table.
    ///
    /// # Errors
    /// The first rule that is broken, with its key.
    pub fn validate(&self) -> Result<(), Invalid> {
        within("keep", self.keep, &Self::KEEP)
    }
}
