//! The whole of a build script that embeds an eBPF object.
//!
//! What must hold: a failure is told in plain words, with the command that mends it, and fails the build.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};

use crate::compile::compile;
use crate::linker::{LINKER_ENV, find_linker};
use crate::toolchain::find_toolchain;

/// Files of the workspace that an eBPF object is made from; a directory stands for all that is in it.
const SOURCES: [&str; 6] = [
    "Cargo.toml",
    "Cargo.lock",
    "lb-common/Cargo.toml",
    "lb-common/src",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/src",
];

/// Builds the program `program` of `lb-ebpf` and hands its path to the crate being built as `env!(variable)`.
///
/// To be called by a build script of this workspace, as all that it does; returns its exit code.
#[must_use]
pub fn embed(program: &str, variable: &str) -> ExitCode {
    match try_embed(program, variable) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_embed(program: &str, variable: &str) -> Result<()> {
    let workspace = workspace_root()?;
    let out_dir =
        PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is unset: this is for build scripts")?);

    let (toolchain, linker) = match (find_toolchain(), find_linker(&out_dir)) {
        (Ok(toolchain), Ok(linker)) => (toolchain, linker),
        (toolchain, linker) => {
            let reasons = [
                toolchain.err().map(|e| e.to_string()),
                linker.err().map(|e| e.to_string()),
            ];
            return Err(missing(reasons.into_iter().flatten()));
        }
    };
    let object = compile(
        &toolchain,
        &linker,
        &workspace,
        &bpf_target_dir(&out_dir),
        program,
    )?;
    for line in object.warnings {
        println!("cargo::warning={line}");
    }
    // The BPF target directory is shared by all profiles; the crate gets a copy that no other build will touch.
    let embedded = out_dir.join(program);
    fs::copy(&object.path, &embedded)
        .with_context(|| format!("cannot copy {} to {}", object.path.display(), embedded.display()))?;
    println!("cargo::rustc-env={variable}={}", embedded.display());

    // Told at the end: a script that fails runs again anyway, and its message stays free of these lines.
    println!("cargo::rerun-if-env-changed={LINKER_ENV}");
    let sources = SOURCES.map(|source| workspace.join(source));
    for file in sources.iter().chain([&linker, &toolchain.rustc]) {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    Ok(())
}

fn missing(reasons: impl Iterator<Item = String>) -> anyhow::Error {
    let reasons: Vec<String> = reasons.map(|reason| format!("- {reason}")).collect();
    anyhow!(
        "\nlb embeds an eBPF program, and this machine cannot build one yet:\n{}\n\n\
         Run `cargo xtask setup`: it says what is missing and installs it.\n",
        reasons.join("\n")
    )
}

/// The root of the workspace that the crate being built belongs to.
fn workspace_root() -> Result<PathBuf> {
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is unset")?;
    Path::new(&manifest_dir)
        .ancestors()
        .find(|directory| directory.join("lb-ebpf/Cargo.toml").is_file())
        .map(Path::to_owned)
        .context("no directory above this crate holds lb-ebpf: build it in a checkout of the whole project")
}

/// The target directory of the inner cargo: beside the profiles' directories, so that all profiles and all crates
/// share the one build; or inside `OUT_DIR` should that lie in an unusual place.
fn bpf_target_dir(out_dir: &Path) -> PathBuf {
    let profile = out_dir
        .ancestors()
        .find(|directory| directory.ends_with("build"))
        .and_then(Path::parent);
    profile.and_then(Path::parent).unwrap_or(out_dir).join("bpf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bpf_build_lies_beside_the_profiles() {
        let dir = |out_dir: &str| bpf_target_dir(Path::new(out_dir));
        assert_eq!(dir("/t/debug/build/lb-userspace-01/out"), Path::new("/t/bpf"));
        assert_eq!(
            dir("/t/x86_64-unknown-linux-musl/release/build/lb/01/out"),
            Path::new("/t/x86_64-unknown-linux-musl/bpf")
        );
        assert_eq!(dir("/elsewhere"), Path::new("/elsewhere/bpf"));
    }
}
