//! `cargo xtask demo`: the whole of the main job in a lab of network namespaces.

use std::ffi::OsString;

use anyhow::Result;

use crate::build;
use crate::cargo::{Profile, Workspace};
use crate::machine;
use crate::privilege::Privilege;

/// Builds `lb` and `lb-demo` and becomes `lb-demo` with `arguments`; returns only when that fails.
pub(crate) fn demo(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let privilege = Privilege::find()?;
    machine::check(privilege)?;
    let lb = build::lb(workspace, Profile::Release)?;
    let demo = workspace.build_binary("lb-tests", "lb-demo", Profile::Release)?;
    // The lab's servers are processes of their own; `lb-demo` finds their program beside itself.
    workspace.build_binary("lb-tests", "lb-lab-node", Profile::Release)?;
    let mut command = privilege.command(&demo);
    command.arg("--lb").arg(&lb).args(arguments);
    Err(Privilege::exec(command))
}
