//! What the API answers about checkpoints.
//!
//! Invariant: within `/v1` fields are added, never renamed, retyped or removed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How saving goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavingView {
    /// The last checkpoint that this agent has put on disk.
    pub last: Option<SavedView>,
    /// Since when none could be, in seconds since 1970-01-01 UTC; absent while all is well.
    pub failing_since: Option<f64>,
    /// Why, in a sentence.
    pub failing_reason: Option<String>,
    /// Files that could not be used when the agent started.
    pub set_aside: Vec<SetAsideView>,
}

/// A checkpoint that was put on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedView {
    /// Its number.
    pub number: u64,
    /// The generation of its desired state.
    pub generation: u64,
    /// The length of its file.
    pub bytes: u64,
    /// When, in seconds since 1970-01-01 UTC.
    pub written: f64,
}

/// A file that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAsideView {
    /// Where it is.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// All checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointsView {
    /// The directory.
    pub directory: PathBuf,
    /// The newest first.
    pub checkpoints: Vec<CheckpointView>,
}

/// One file of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// Its number.
    pub number: u64,
    /// Where it is.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Whether an agent has found it bad and set it aside.
    pub set_aside: bool,
    /// What is wrong with it; absent where all is well.
    pub error: Option<String>,
    /// What it holds, where that can be read.
    pub content: Option<ContentView>,
}

/// What a checkpoint holds, in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContentView {
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub written: f64,
    /// The version of `lb` that made it.
    pub lb_version: String,
    /// The generation of its desired state.
    pub generation: u64,
    /// How many services there are in it.
    pub services: u64,
    /// How many backends they have in all.
    pub backends: u64,
    /// How many flows there are in it; absent where it was made without.
    pub flows: Option<u64>,
}

/// What a restore has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredView {
    /// The checkpoint.
    pub number: u64,
    /// The generation of the desired state that is now in force.
    pub generation: u64,
    /// Time from the command to the last map written, in microseconds.
    pub apply_us: u64,
    /// Whether that is on disk, in a new checkpoint.
    pub saved: bool,
    /// What of the checkpoint was not restored, and why.
    pub left_out: Vec<String>,
}

impl RestoredView {
    /// Says whether it is on disk.
    #[must_use]
    pub fn with_saved(self, saved: bool) -> Self {
        Self { saved, ..self }
    }
}
