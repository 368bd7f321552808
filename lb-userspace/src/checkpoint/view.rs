//! What the API and the command line show of checkpoints.

use std::path::Path;
use std::time::UNIX_EPOCH;

use lb_api::checkpoint::{CheckpointView, CheckpointsView, ContentView};

use super::{Checkpoint, Listed};

/// All checkpoints of a state directory, as they were listed.
pub fn checkpoints_view(state_dir: &Path, listed: &[Listed]) -> CheckpointsView {
    CheckpointsView {
        directory: super::directory(state_dir),
        checkpoints: listed.iter().map(checkpoint_view).collect(),
    }
}

fn checkpoint_view(listed: &Listed) -> CheckpointView {
    let Listed {
        number,
        path,
        bytes,
        aside,
        content,
    } = listed;
    CheckpointView {
        number: *number,
        file: path.clone(),
        bytes: *bytes,
        set_aside: *aside,
        error: content.as_ref().err().map(ToString::to_string),
        content: content.as_ref().ok().map(content_view),
    }
}

/// The figures of a checkpoint.
pub fn content_view(Checkpoint { state, flows }: &Checkpoint) -> ContentView {
    let written = state.written.duration_since(UNIX_EPOCH);
    ContentView {
        written: written.map_or(0.0, |since| since.as_secs_f64()),
        lb_version: state.lb_version.clone(),
        generation: state.generation,
        services: state.services.len() as u64,
        backends: state.services.iter().map(|s| s.backends.len() as u64).sum(),
        flows: flows.as_ref().map(|flows| flows.entries.len() as u64),
    }
}
