//! `cargo xtask bench`: what a packet costs, measured in the kernel.

use std::ffi::OsString;

use anyhow::Result;

use crate::cargo::{Profile, Workspace};
use crate::machine;
use crate::privilege::Privilege;
use crate::setup;

/// The option of `lb-bench` that starts `lb`.
const AGENT: &str = "--agent";

/// Builds the bench and becomes `lb-bench` with `arguments`; returns only when that fails.
pub(crate) fn bench(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let privilege = Privilege::find()?;
    machine::check(privilege)?;
    setup::ensure(workspace)?;
    // The agent itself is measured only when asked for, and takes long to link.
    let (packages, binaries): (&[&str], &[&str]) = if arguments.iter().any(|argument| argument == AGENT) {
        (&["lb-userspace", "lb-bench"], &["lb", "lb-bench"])
    } else {
        (&["lb-bench"], &["lb-bench"])
    };
    let built = workspace.build(packages, binaries, Profile::Release)?;
    let mut command = privilege.command(built.path("lb-bench")?);
    if let Ok(lb) = built.path("lb") {
        command.arg("--lb").arg(lb);
    }
    command.args(arguments);
    Err(Privilege::exec(command))
}
