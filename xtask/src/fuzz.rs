//! `cargo xtask fuzz`: what becomes of packets, by the program, by its host build, and by a model that knows neither.

use std::ffi::OsString;

use anyhow::Result;

use crate::cargo::{Profile, Workspace};
use crate::machine;
use crate::privilege::Privilege;
use crate::setup;

/// Builds the fuzzer and becomes `lb-fuzz` with `arguments`; returns only when that fails.
pub(crate) fn fuzz(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let privilege = Privilege::find()?;
    machine::check(privilege)?;
    setup::ensure(workspace)?;
    let built = workspace.build(&["lb-fuzz"], &["lb-fuzz"], Profile::Release)?;
    let mut command = privilege.command(built.path("lb-fuzz")?);
    command.args(arguments);
    Err(Privilege::exec(command))
}
