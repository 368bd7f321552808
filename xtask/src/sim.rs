//! `cargo xtask sim`: whether flows keep their backends, simulated on the host build of the packet path.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{Profile, Workspace};
use crate::setup;

/// Builds the simulation and becomes `lb-sim` with `arguments`; returns only when that fails. It needs no privilege.
pub(crate) fn sim(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    setup::ensure(workspace)?;
    let built = workspace.build(&["lb-sim"], &["lb-sim"], Profile::Release)?;
    let path = built.path("lb-sim")?;
    let error = Command::new(path).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", path.display()))
}
