//! `cargo xtask build`: the binary `lb`, with the eBPF program in it.

use std::path::PathBuf;

use anyhow::Result;

use crate::cargo::{Profile, Workspace};
use crate::setup;

/// Builds `lb` and says where it is.
pub(crate) fn build(workspace: &Workspace, profile: Profile) -> Result<()> {
    println!("{}", lb(workspace, profile)?.display());
    Ok(())
}

/// Builds `lb`, setting up the toolchain first when needed, and returns its path.
pub(crate) fn lb(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    setup::ensure(workspace)?;
    Ok(workspace
        .build(&["lb-userspace"], &["lb"], profile)?
        .path("lb")?
        .to_owned())
}
