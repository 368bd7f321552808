//! `cargo xtask bench`: what a packet costs, measured in the kernel.

use std::ffi::OsString;

use anyhow::Result;

use crate::cargo::{Profile, Workspace};
use crate::machine;
use crate::privilege::Privilege;
use crate::setup;

/// Builds the bench and becomes `lb-bench` with `arguments`; returns only when that fails.
pub(crate) fn bench(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let privilege = Privilege::find()?;
    machine::check(privilege)?;
    setup::ensure(workspace)?;
    let built = workspace.build(&["lb-tests"], &["lb-bench"], Profile::Release)?;
    let mut command = privilege.command(built.path("lb-bench")?);
    command.args(arguments);
    Err(Privilege::exec(command))
}
