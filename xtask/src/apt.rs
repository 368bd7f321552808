//! Debian's packages: what they are called here, and their installation.
//!
//! What must hold: a package is named to the user, and to apt, only after apt said that it has it.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use lb_ebpf_build::is_recent;

use crate::setup::in_path;

/// Suffixes of the packages' names: `rustc`, or `rustc-web` where an older Debian gets a newer compiler beside its own.
const FAMILIES: [&str; 2] = ["", "-web"];

/// The packages that make a compiler for BPF.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) packages: Vec<String>,
    /// The major version of the LLVM it is built with.
    pub(crate) llvm_major: u32,
}

/// Whether this is a system whose packages apt manages.
pub(crate) fn is_here() -> bool {
    in_path("apt-get") && in_path("apt-cache")
}

/// Finds the packages of a compiler that is recent enough and has a prebuilt `core` for BPF.
pub(crate) fn compiler() -> Option<Compiler> {
    FAMILIES.iter().find_map(|family| {
        let packages = [
            format!("rustc{family}"),
            format!("cargo{family}"),
            format!("libstd-rust{family}-dev-bpf"),
        ];
        let recent = packages
            .iter()
            .all(|package| candidate(package).is_some_and(|v| is_recent(&v)));
        let llvm_major = recent.then(|| llvm_of(&packages[0])).flatten()?;
        Some(Compiler {
            packages: packages.to_vec(),
            llvm_major,
        })
    })
}

/// The package with LLVM's library to link with, where apt has it.
pub(crate) fn llvm(major: u32) -> Option<String> {
    let package = format!("llvm-{major}-dev");
    candidate(&package).map(|_| package)
}

/// The command that installs `packages`, as a person who is not root would type it.
pub(crate) fn install_command(packages: &[String]) -> String {
    let packages = packages.join(" ");
    format!("sudo apt-get update && sudo apt-get install --no-install-recommends {packages}")
}

/// Fetches the lists of packages. Needs root.
pub(crate) fn update() -> Result<()> {
    apt_get(&["update", "--quiet"])
}

/// Installs `packages`, and removes none. Needs root.
pub(crate) fn install(packages: &[String]) -> Result<()> {
    let mut arguments = vec![
        "install",
        "--yes",
        "--quiet",
        "--no-remove",
        "--no-install-recommends",
    ];
    arguments.extend(packages.iter().map(String::as_str));
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot run apt-get")?;
    if !status.success() {
        bail!("`apt-get {}` failed: see its messages above", arguments.join(" "));
    }
    Ok(())
}

/// The version of `package` that apt would install.
fn candidate(package: &str) -> Option<String> {
    candidate_in(&apt_cache(&["policy", package])?)
}

fn candidate_in(policy: &str) -> Option<String> {
    let version = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate:"))?
        .trim();
    (version != "(none)").then(|| version.to_owned())
}

/// The LLVM that `package` needs, directly or not.
fn llvm_of(package: &str) -> Option<u32> {
    llvm_in(&apt_cache(&["depends", "--recurse", "--important", package])?)
}

fn llvm_in(dependencies: &str) -> Option<u32> {
    dependencies.lines().find_map(|line| {
        let number = line.split_whitespace().last()?.strip_prefix("libllvm")?;
        number.parse().ok()
    })
}

fn apt_cache(arguments: &[&str]) -> Option<String> {
    let output = Command::new("apt-cache")
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_candidate_is_not_there() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1\n  Version table:\n";
        assert_eq!(candidate_in(policy).as_deref(), Some("1.96.0+dfsg1-1"));
        assert_eq!(
            candidate_in("x:\n  Installed: (none)\n  Candidate: (none)\n"),
            None
        );
        assert_eq!(candidate_in(""), None);
    }

    #[test]
    fn the_llvm_is_read_from_the_dependencies() {
        let dependencies =
            "rustc-web\n  Depends: libc6\nlibstd-rust-web-1.96\n  Depends: libllvm22\nlibllvm22\n";
        assert_eq!(llvm_in(dependencies), Some(22));
        assert_eq!(llvm_in("rustc\n  Depends: libllvm-something\n"), None);
    }
}
