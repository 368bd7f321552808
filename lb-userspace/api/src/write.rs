//! What is written, and what was done.

use lb_core::desired::{Change, Removal};
use serde::{Deserialize, Serialize};

/// A write that may be planned.
#[derive(Debug)]
pub enum Planned {
    /// A change to the desired state.
    Change(Box<Change>),
    /// The configuration file is read again; and what becomes of backends that it no longer has.
    Reload(Removal),
}

/// What was done by a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The generation of the desired state that is now in force.
    pub generation: u64,
    /// Time from the command to the last map written, in microseconds.
    pub apply_us: u64,
    /// Whether it is on disk; else it is in force all the same, but would not outlive a restart.
    #[serde(default)]
    pub saved: bool,
}

/// What was done by reading the configuration file again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// As with any write.
    #[serde(flatten)]
    pub applied: Applied,
    /// Services and backends that the file no longer has, such as `service web` and `10.0.0.5 of dns`.
    #[serde(default)]
    pub removed: Vec<String>,
}

impl Reloaded {
    /// Says whether it is on disk.
    #[must_use]
    pub fn with_saved(self, saved: bool) -> Self {
        Self {
            applied: self.applied.with_saved(saved),
            ..self
        }
    }
}

impl Applied {
    /// Says whether it is on disk.
    #[must_use]
    pub fn with_saved(self, saved: bool) -> Self {
        Self { saved, ..self }
    }
}
