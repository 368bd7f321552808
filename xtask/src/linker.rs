//! bpf-linker, built into the build tree.
//!
//! What must hold: its LLVM is of the compiler's major version, or it could not read what the compiler writes.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use lb_ebpf_build::toolchain_dir;

use crate::cargo::Workspace;

/// The release that is built, and the LLVM versions it can be built with.
const VERSION: &str = "0.13.0";
const LLVM_MAJORS: std::ops::RangeInclusive<u32> = 22..=23;

/// An installed LLVM, with its shared library to link with.
#[derive(Debug)]
pub(crate) struct Llvm {
    pub(crate) major: u32,
    pub(crate) prefix: PathBuf,
}

impl fmt::Display for Llvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LLVM {} at {}", self.major, self.prefix.display())
    }
}

/// Fails when bpf-linker cannot be built with LLVM `major`.
pub(crate) fn check_supported(major: u32) -> Result<()> {
    if !LLVM_MAJORS.contains(&major) {
        bail!(
            "the Rust compiler is built with LLVM {major}, and bpf-linker {VERSION} knows LLVM {} to {}: \
             install a bpf-linker for LLVM {major} yourself and name it in BPF_LINKER",
            LLVM_MAJORS.start(),
            LLVM_MAJORS.end()
        );
    }
    Ok(())
}

/// Finds an LLVM of the given major version that can be linked with, by asking each `llvm-config` there may be.
pub(crate) fn find_llvm(major: u32) -> Option<Llvm> {
    let names = [
        format!("llvm-config-{major}"),
        format!("llvm-config-64-{major}"),
        "llvm-config".to_owned(),
    ];
    names.iter().find_map(|name| {
        let is_major = ask(name, "--version")?.split('.').next()?.parse() == Ok(major);
        let has_library = Path::new(&ask(name, "--libdir")?).join("libLLVM.so").is_file();
        (is_major && has_library).then_some(())?;
        Some(Llvm {
            major,
            prefix: PathBuf::from(ask(name, "--prefix")?),
        })
    })
}

fn ask(llvm_config: &str, question: &str) -> Option<String> {
    let output = Command::new(llvm_config).arg(question).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Says what [`install`] is about to do.
pub(crate) fn describe(workspace: &Workspace, llvm_major: u32) -> String {
    let place = toolchain_dir(&workspace.target);
    format!(
        "bpf-linker {VERSION}, built for LLVM {llvm_major} by cargo into {} (about a minute)",
        place.display()
    )
}

/// Builds bpf-linker with `llvm` into the build tree.
pub(crate) fn install(workspace: &Workspace, llvm: &Llvm) -> Result<()> {
    let root = toolchain_dir(&workspace.target);
    // With its directory in PATH, cargo does not ask the user to put it there: the build scripts find it without.
    let path = env::var_os("PATH").unwrap_or_default();
    let path =
        env::join_paths(env::split_paths(&path).chain([root.join("bin")])).context("PATH is unusable")?;
    let status = workspace
        .cargo("install")
        .args([
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--no-default-features",
        ])
        .args(["--features", &format!("llvm-{}", llvm.major)])
        .arg("--root")
        .arg(&root)
        .env("LLVM_PREFIX", &llvm.prefix)
        .env("PATH", path)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("bpf-linker does not build with {llvm}: see the messages above");
    }
    Ok(())
}
