//! `cargo xtask run`: the agent from this checkout, with the privilege it needs.

use std::ffi::OsString;

use anyhow::Result;

use crate::build;
use crate::cargo::{Profile, Workspace};
use crate::privilege::Privilege;

/// Builds `lb` and becomes `lb run` with `arguments`; returns only when that fails. What is tried out ends with
/// Ctrl-C, unless it is given a place to live on.
pub(crate) fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    // Asked first: who cannot run the agent should not wait for the build to learn it.
    let privilege = Privilege::find()?;
    let lb = build::lb(workspace, Profile::Release)?;
    let mut command = privilege.command(&lb);
    command.arg("run").args(arguments);
    if !arguments.iter().any(lives_on) {
        command.arg("--ephemeral");
    }
    Err(Privilege::exec(command))
}

/// Whether an argument says itself how long the dataplane is to live.
fn lives_on(argument: &OsString) -> bool {
    let argument = argument.to_string_lossy();
    argument.starts_with("--pin-dir") || argument == "--ephemeral"
}
