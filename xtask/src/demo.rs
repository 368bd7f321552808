//! `cargo xtask demo`: the whole of the main job in a lab of network namespaces.

use std::ffi::OsString;

use anyhow::Result;

use crate::cargo::{Profile, Workspace};
use crate::machine;
use crate::privilege::Privilege;
use crate::setup;

/// Builds `lb` and the lab and becomes `lb-demo` with `arguments`; returns only when that fails.
pub(crate) fn demo(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let privilege = Privilege::find()?;
    machine::check(privilege)?;
    setup::ensure(workspace)?;
    // Not optimised: whoever sees it first waits for the build, and the tests use it again. (What is built for BPF is
    // optimised in any case.) The lab's servers are processes of their own; `lb-demo` finds their program beside itself.
    let binaries = ["lb", "lb-demo", "lb-lab-node"];
    let built = workspace.build(&["lb-userspace", "lb-demo", "lb-lab"], &binaries, Profile::Dev)?;
    let mut command = privilege.command(built.path("lb-demo")?);
    command.arg("--lb").arg(built.path("lb")?).args(arguments);
    Err(Privilege::exec(command))
}
