//! The Rust compilers of this machine, and which of them can build for BPF.
//!
//! There are two ways (docs/adr/0001-toolchain.md): a compiler that comes with a prebuilt `core` for BPF, as
//! distributions package it, or one that comes with the source of `core`, such as a nightly with `rust-src`. What must
//! hold: a [`Toolchain`] is handed out only after its compiler, its cargo and its `core` were seen on disk.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target `lb-ebpf` is built for: BPF in the byte order of the little-endian hosts.
pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";

/// The oldest Rust release that builds this workspace.
pub const MINIMUM_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Where distributions install their compiler; asked even when `PATH` leads to another one first.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// How a toolchain comes by the `core` library for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Core {
    /// It is installed ready-made, as the distributions' `libstd-rust-*dev-bpf` packages do.
    Prebuilt,
    /// Its source is installed (the component `rust-src`), and cargo builds it (`-Z build-std`).
    FromSource,
}

/// A compiler and a cargo that can build for BPF, given a linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler itself, never a rustup shim.
    pub rustc: PathBuf,
    /// The cargo that belongs to the compiler.
    pub cargo: PathBuf,
    /// The compiler's release, such as `1.96.0`.
    pub release: String,
    /// The major version of the LLVM the compiler was built with. The linker reads what this LLVM writes, so its own
    /// LLVM must be the same or newer.
    pub llvm_major: u32,
    /// Where `core` comes from.
    pub core: Core,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = match self.core {
            Core::Prebuilt => "with a prebuilt core for BPF",
            Core::FromSource => "with the source of core",
        };
        write!(
            f,
            "rustc {} (LLVM {}) at {}, {core}",
            self.release,
            self.llvm_major,
            self.rustc.display()
        )
    }
}

/// No compiler of this machine can build for BPF.
#[derive(Debug)]
pub struct ToolchainError {
    /// Each compiler that was looked at, and why it will not do.
    pub refused: Vec<(PathBuf, String)>,
}

impl fmt::Display for ToolchainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no Rust compiler here can build for BPF")?;
        if self.refused.is_empty() {
            write!(f, ": there is none in PATH nor at {DISTRIBUTION_RUSTC}")?;
        }
        for (rustc, reason) in &self.refused {
            write!(f, "\n  {}: {reason}", rustc.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ToolchainError {}

/// Finds the best toolchain for BPF: one with a prebuilt `core` before one that has to build it.
///
/// # Errors
///
/// When no compiler will do; the error names each one that was looked at and what it lacks.
pub fn find_toolchain() -> Result<Toolchain, ToolchainError> {
    let mut refused = Vec::new();
    let mut from_source = None;
    for rustc in compilers() {
        match examine(&rustc) {
            Ok(toolchain) if toolchain.core == Core::Prebuilt => return Ok(toolchain),
            Ok(toolchain) => from_source = from_source.or(Some(toolchain)),
            Err(reason) => refused.push((rustc, reason)),
        }
    }
    from_source.ok_or(ToolchainError { refused })
}

/// Every compiler of this machine, rustup's shims resolved, in the order of preference.
fn compilers() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = std::iter::once(PathBuf::from(DISTRIBUTION_RUSTC))
        .chain(env::split_paths(&path).map(|directory| directory.join("rustc")))
        .filter(|rustc| rustc.is_file())
        .filter_map(|rustc| Some(sysroot(&rustc)?.join("bin/rustc")))
        .chain(rustup_nightlies());
    let mut seen = BTreeSet::new();
    candidates
        .filter(|rustc| rustc.is_file() && seen.insert(rustc.canonicalize().ok()))
        .collect()
}

/// The compilers of the nightly toolchains rustup has installed; none where there is no rustup.
fn rustup_nightlies() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")))
        .unwrap_or_default();
    let Ok(toolchains) = home.join("toolchains").read_dir() else {
        return Vec::new();
    };
    let mut nightlies: Vec<PathBuf> = toolchains
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("nightly"))
        .map(|entry| entry.path().join("bin/rustc"))
        .collect();
    // A plain `nightly` before the dated ones, and of these the newest: their names sort by date.
    nightlies.sort_by(|a, b| b.cmp(a));
    nightlies.sort_by_key(|rustc| rustc.to_string_lossy().contains("nightly-2"));
    nightlies
}

/// What `rustc` can do for us, or why it will not do.
fn examine(rustc: &Path) -> Result<Toolchain, String> {
    let version = ask(rustc, &["--version", "--verbose"]).ok_or("it does not run")?;
    let field = |name: &str| {
        version
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
    };
    let release = field("release:").ok_or("it does not tell its release")?;
    if !is_recent(&release) {
        return Err(format!(
            "it is Rust {release}, and lb needs {MINIMUM_RUST} or later"
        ));
    }
    let llvm_major = field("LLVM version:")
        .and_then(|version| version.split('.').next()?.parse().ok())
        .ok_or("it does not tell its LLVM version")?;
    let sysroot = sysroot(rustc).ok_or("it does not tell its sysroot")?;
    let core = core_of(&sysroot).ok_or_else(|| {
        format!("it has neither a prebuilt core for {BPF_TARGET} nor the source of core (rust-src)")
    })?;
    let cargo = rustc.with_file_name("cargo");
    if !cargo.is_file() {
        return Err("there is no cargo beside it".to_owned());
    }
    Ok(Toolchain {
        rustc: rustc.to_owned(),
        cargo,
        release,
        llvm_major,
        core,
    })
}

/// How the toolchain installed at `sysroot` comes by `core`, if it does at all.
fn core_of(sysroot: &Path) -> Option<Core> {
    let rustlib = sysroot.join("lib/rustlib");
    let is_core = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    };
    let prebuilt = rustlib.join(BPF_TARGET).join("lib").read_dir();
    if prebuilt.is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| is_core(&file.file_name())))) {
        return Some(Core::Prebuilt);
    }
    rustlib
        .join("src/rust/library/core/src/lib.rs")
        .is_file()
        .then_some(Core::FromSource)
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    ask(rustc, &["--print", "sysroot"]).map(|answer| PathBuf::from(answer.trim()))
}

/// The output of a compiler's short question, or `None` when it fails.
fn ask(rustc: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(rustc).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `version`, such as `1.96.0+dfsg1-1`, is that of a Rust release which builds this workspace.
#[must_use]
pub fn is_recent(version: &str) -> bool {
    number_pair(version) >= number_pair(MINIMUM_RUST)
}

/// Major and minor number of a version; what is no number counts as 0.
fn number_pair(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(number_pair("1.100.0") > number_pair("1.95"));
        assert!(!is_recent("1.63.0+dfsg1-2"));
        assert!(is_recent("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(number_pair("1.97.0-nightly"), (1, 97));
    }

    #[test]
    fn a_core_counts_only_when_its_files_are_there() {
        let sysroot = env::temp_dir().join(format!("lb-sysroot-{}", std::process::id()));
        let prebuilt = sysroot.join("lib/rustlib").join(BPF_TARGET).join("lib");
        std::fs::create_dir_all(&prebuilt).unwrap();
        assert_eq!(core_of(&sysroot), None, "an empty directory is no core");

        let source = sysroot.join("lib/rustlib/src/rust/library/core/src");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("lib.rs"), "").unwrap();
        assert_eq!(core_of(&sysroot), Some(Core::FromSource));

        std::fs::write(prebuilt.join("libcore-0123.rlib"), "").unwrap();
        assert_eq!(
            core_of(&sysroot),
            Some(Core::Prebuilt),
            "a prebuilt core goes first"
        );
        std::fs::remove_dir_all(&sysroot).unwrap();
    }
}
