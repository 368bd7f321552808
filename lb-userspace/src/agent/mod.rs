//! The long-running process that owns the wish and the dataplane.

mod handle;

pub use handle::{AgentHandle, Applied, Command, RequestError};

use crate::cli::RunOptions;

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Why it could not start or go on.
pub async fn run(options: RunOptions) -> anyhow::Result<()> {
    anyhow::bail!(
        "cannot attach to {}: this build has no dataplane",
        options.interfaces.join(", ")
    )
}
