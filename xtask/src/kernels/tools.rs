//! The programs that make and boot a guest, from the distribution's packages.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use crate::apt;

/// Each program, and the package that brings it.
const TOOLS: [(&str, &str); 9] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("strip", "binutils"),
];

/// Directories of programs that are not in everybody's `PATH`.
const MORE_PATHS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Installs what is missing.
///
/// # Errors
/// When it cannot be installed here; the message says how to.
pub(super) fn ensure() -> Result<()> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("the guests are x86-64 machines, and this is none");
    }
    if !apt::is_here() {
        bail!("kernels come from the packages of Debian, and there is no apt here");
    }
    let missing: Vec<String> = TOOLS
        .iter()
        .filter(|(program, _)| path(program).is_err())
        .map(|(_, package)| (*package).to_owned())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!(
        "To boot other kernels, this machine still needs the packages {}.",
        missing.join(" ")
    );
    if !geteuid().is_root() {
        bail!(
            "installing packages needs root: run\n\n    {}\n",
            apt::install_command(&missing)
        );
    }
    apt::update()?;
    apt::install(&missing)
}

/// The program's path.
pub(super) fn path(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = MORE_PATHS.iter().map(PathBuf::from);
    match env::split_paths(&path)
        .chain(more)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
    {
        Some(path) => Ok(path),
        None => bail!("there is no program {program}"),
    }
}
