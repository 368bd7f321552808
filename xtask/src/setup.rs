//! `cargo xtask setup`: a toolchain that builds eBPF programs, found or installed.
//!
//! What must hold: nothing is installed before it was named, and a machine that has everything is left alone.

use std::env;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use lb_ebpf_build::{LinkerError, MINIMUM_RUST, find_linker, find_toolchain};
use nix::unistd::geteuid;

use crate::apt;
use crate::cargo::Workspace;
use crate::linker;

/// Whether `program` is in one of `PATH`'s directories.
pub(crate) fn in_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Installs what is missing, and says nothing when nothing is.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    if find_toolchain().is_ok() && find_linker(&workspace.target).is_ok() {
        return Ok(());
    }
    install_missing(workspace)
}

/// Installs what is missing and reports what there is.
pub(crate) fn setup(workspace: &Workspace) -> Result<()> {
    ensure(workspace)?;
    report(workspace);
    Ok(())
}

/// Reports what is there and what is missing; fails when something is.
pub(crate) fn check(workspace: &Workspace) -> ExitCode {
    if report(workspace) {
        return ExitCode::SUCCESS;
    }
    match Plan::make(workspace) {
        Ok(plan) => eprintln!("{}", plan.describe(workspace)),
        Err(error) => eprintln!("{error:#}"),
    }
    ExitCode::FAILURE
}

fn report(workspace: &Workspace) -> bool {
    let toolchain = find_toolchain();
    match &toolchain {
        Ok(toolchain) => println!("compiler: {toolchain}"),
        Err(error) => println!("compiler: {error}"),
    }
    let linker = find_linker(&workspace.target);
    match &linker {
        Ok(linker) => println!("linker:   {}", linker.display()),
        Err(error) => println!("linker:   {error}"),
    }
    toolchain.is_ok() && linker.is_ok()
}

fn install_missing(workspace: &Workspace) -> Result<()> {
    let is_root = geteuid().is_root();
    let mut plan = Plan::make(workspace);
    if is_root && apt::is_here() && plan.as_ref().map_or(true, |plan| !plan.packages.is_empty()) {
        eprintln!("Fetching the lists of Debian packages.");
        apt::update()?;
        plan = Plan::make(workspace);
    }
    let plan = plan?;
    eprintln!("{}", plan.describe(workspace));
    if !plan.packages.is_empty() {
        if !is_root {
            let command = apt::install_command(&plan.packages);
            bail!("installing packages needs root. Run\n\n    {command}\n\nand then the same command again");
        }
        apt::install(&plan.packages)?;
    }
    if let Some(major) = plan.linker_for {
        let llvm = linker::find_llvm(major).with_context(|| {
            format!("LLVM {major} is still not there, or has no shared library to link with")
        })?;
        linker::install(workspace, &llvm)?;
    }
    find_toolchain()?;
    find_linker(&workspace.target)?;
    Ok(())
}

/// What is still to be installed.
struct Plan {
    packages: Vec<String>,
    /// The LLVM to build bpf-linker for, when there is no bpf-linker yet.
    linker_for: Option<u32>,
}

impl Plan {
    /// Finds out what is missing and where it can come from; an error when it can come from nowhere.
    fn make(workspace: &Workspace) -> Result<Self> {
        let (mut packages, llvm_major) = match find_toolchain() {
            Ok(toolchain) => (Vec::new(), toolchain.llvm_major),
            Err(missing) => match apt::compiler() {
                Some(compiler) => (compiler.packages, compiler.llvm_major),
                None => bail!("{missing}\n\n{}", both_ways()),
            },
        };
        let linker_for = match find_linker(&workspace.target) {
            Ok(_) => None,
            Err(LinkerError::Missing) => Some(llvm_major),
            Err(error @ LinkerError::NotRunnable(_)) => bail!("{error}: correct it, or unset it"),
        };
        if linker_for.is_some() {
            linker::check_supported(llvm_major)?;
            if linker::find_llvm(llvm_major).is_none() {
                packages.push(apt::llvm(llvm_major).with_context(|| no_llvm(llvm_major))?);
            }
        }
        Ok(Self { packages, linker_for })
    }

    fn describe(&self, workspace: &Workspace) -> String {
        let mut lines = vec!["To build eBPF programs, this machine still needs:".to_owned()];
        if !self.packages.is_empty() {
            lines.push(format!("- the Debian packages {}", self.packages.join(" ")));
        }
        if let Some(major) = self.linker_for {
            lines.push(format!("- {}", linker::describe(workspace, major)));
        }
        lines.join("\n")
    }
}

fn both_ways() -> String {
    format!(
        "There are two ways to get one:\n\
         1. Debian's packages. Debian 12 has them among its security updates (rustc-web, cargo-web,\n   \
            libstd-rust-web-dev-bpf), later ones as rustc, cargo and libstd-rust-dev-bpf; Rust {MINIMUM_RUST} or later\n   \
            is needed. If this is such a Debian, run `sudo apt-get update`, then `cargo xtask setup` again.\n\
         2. rustup, anywhere: `rustup toolchain install nightly --component rust-src`,\n   \
            then `cargo xtask setup` again."
    )
}

fn no_llvm(major: u32) -> String {
    format!(
        "there is no bpf-linker, and to build one takes LLVM {major} with its headers' package\n\
         (llvm-config and libLLVM.so), which is not installed and unknown to apt here.\n\
         Install LLVM {major}'s development package and run `cargo xtask setup` again,\n\
         or install a ready-made bpf-linker: `cargo binstall bpf-linker`, or its release archive"
    )
}
