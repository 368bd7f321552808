//! The one cargo run that compiles a program of `lb-ebpf` for BPF.
//!
//! What must hold: the inner cargo sees nothing of the outer one. What cargo and rustup put into the environment of a
//! build script would lead the distribution's cargo back to rustup's compiler.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::toolchain::{BPF_TARGET, Core, Toolchain};

/// What cargo reads from the environment because a user or an administrator put it there: it stays.
const KEPT: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
];

/// What the outer build puts into the environment, by prefix: it goes, except for [`KEPT`].
const CLEARED: [&str; 6] = [
    "CARGO",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "__CARGO",
];

/// The LLVM feature that reads and writes words at any address: packet headers are not aligned, and without it each
/// word of them would be put together from single bytes.
const MISALIGNED_ACCESS: &str = "allows-misaligned-mem-access";

/// How the lines begin that only tell cargo's progress.
const PROGRESS: [&str; 7] = [
    "Blocking ",
    "Compiling ",
    "Downloaded ",
    "Downloading ",
    "Finished ",
    "Locking ",
    "Updating ",
];

/// The usual reason for a failure to link, and what to do about it.
const OLD_LINKER: &str = "\nIf the linker cannot read its input, its LLVM is older than the compiler's: take that \
     bpf-linker out of PATH and BPF_LINKER, and run `cargo xtask setup`.";

/// A compiled program of `lb-ebpf`.
#[derive(Debug)]
pub(crate) struct Object {
    /// The ELF file, with BTF and debug information.
    pub(crate) path: PathBuf,
    /// What the compiler had to say, empty when it had no warnings.
    pub(crate) warnings: Vec<String>,
}

/// Compiles the program (binary target) `program` of `lb-ebpf`, in the workspace at `workspace`, into `target_dir`.
///
/// `target_dir` must not be the outer cargo's own: that one is locked while a build script runs.
///
/// # Errors
///
/// When cargo cannot be run, or the program does not compile or link; the error carries the compiler's words.
pub(crate) fn compile(
    toolchain: &Toolchain,
    linker: &Path,
    workspace: &Path,
    target_dir: &Path,
    program: &str,
) -> Result<Object> {
    let mut cargo = cargo_command(toolchain, linker, workspace, target_dir, program)?;
    let output = cargo
        .output()
        .with_context(|| format!("cannot run {}", toolchain.cargo.display()))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let hint = if messages.contains("error: linking with") {
            OLD_LINKER
        } else {
            ""
        };
        let linker = linker.display();
        bail!("{messages}\n`{program}` does not build for BPF with {toolchain}, linked by {linker}{hint}");
    }
    let path = target_dir.join(BPF_TARGET).join("release").join(program);
    Ok(Object {
        path,
        warnings: warnings(&messages),
    })
}

fn cargo_command(
    toolchain: &Toolchain,
    linker: &Path,
    workspace: &Path,
    target_dir: &Path,
    program: &str,
) -> Result<Command> {
    let mut cargo = Command::new(&toolchain.cargo);
    for (name, _) in env::vars_os() {
        let is_any = |prefixes: &[&str]| prefixes.iter().any(|p| name.to_string_lossy().starts_with(p));
        if is_any(&CLEARED) && !is_any(&KEPT) {
            cargo.env_remove(&name);
        }
    }
    cargo
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "lb-ebpf",
            "--bin",
            program,
        ])
        .args(["--target", BPF_TARGET])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(workspace)
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(linker)?)
        // aya-ebpf uses BPF assembly, which no stable compiler accepts without this.
        .env("RUSTC_BOOTSTRAP", "1")
        .stdin(Stdio::null());
    if toolchain.core == Core::FromSource {
        cargo.args(["-Z", "build-std=core"]);
    }
    Ok(cargo)
}

/// The compiler's flags, separated as cargo wants them in `CARGO_ENCODED_RUSTFLAGS`.
fn rust_flags(linker: &Path) -> Result<String> {
    let linker = linker
        .to_str()
        .context("the path of bpf-linker is not UTF-8: move it to one that is")?;
    let flags = [
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        &format!("-Clinker={linker}"),
        "-Ctarget-cpu=v3",
        &format!("-Ctarget-feature=+{MISALIGNED_ACCESS}"),
    ];
    Ok(flags.join("\x1f"))
}

/// The compiler's warnings among cargo's messages, line by line, without those the flags above always cause.
fn warnings(messages: &str) -> Vec<String> {
    let is_progress = |line: &str| PROGRESS.iter().any(|verb| line.trim_start().starts_with(verb));
    let is_expected = |text: &str| text.contains(MISALIGNED_ACCESS) || text.contains(" generated ");
    let mut warnings = Vec::new();
    for paragraph in messages.split("\n\n") {
        let lines: Vec<&str> = paragraph.lines().filter(|line| !is_progress(line)).collect();
        if lines.first().is_some_and(|line| line.starts_with("warning")) && !is_expected(paragraph) {
            warnings.extend(lines.into_iter().map(str::to_owned));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_no_warning() {
        assert!(warnings("   Compiling lb-ebpf\n    Finished `release` profile\n").is_empty());
        let noisy = "   Compiling lb-ebpf\nwarning: unstable `allows-misaligned-mem-access`\n  = note: it can change\n\n\
                     warning: unused\n --> src/lb.rs:1:1\n\n\
                     warning: `lb-ebpf` generated 2 warnings\n    Finished `release`\n";
        assert_eq!(warnings(noisy), ["warning: unused", " --> src/lb.rs:1:1"]);
    }
}
