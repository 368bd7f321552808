//! What `POST /v1/write` answers: what was done. What it takes is a [`Change`](lb_core::desired::Change).

use serde::{Deserialize, Serialize};

/// What was done by a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The generation of the desired state that is now in force.
    pub generation: u64,
    /// Time from the command to the last map written, in microseconds.
    pub apply_us: u64,
    /// Whether it is on disk; else it is in force all the same, but would not outlive a restart.
    #[serde(default)]
    pub saved: bool,
    /// Only of a reload: services and backends that the file no longer has, such as `service web` and `10.0.0.5 of dns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Vec<String>>,
}

impl Applied {
    /// Says whether it is on disk.
    #[must_use]
    pub fn with_saved(self, saved: bool) -> Self {
        Self { saved, ..self }
    }
}
