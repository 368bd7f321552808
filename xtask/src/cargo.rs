//! The workspace, and the cargo runs in it.
//!
//! What must hold: cargo itself is asked where things are; no path of its target directory is guessed.

use std::env;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Message, MetadataCommand};

/// Where this checkout is, and where cargo puts what it builds.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Workspace {
    /// The workspace this command was compiled in.
    pub(crate) fn find() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .no_deps()
            .exec()
            .context("cannot read the workspace: run `cargo xtask` inside the checkout")?;
        Ok(Self {
            root: metadata.workspace_root.into_std_path_buf(),
            target: metadata.target_directory.into_std_path_buf(),
        })
    }

    /// A cargo run in this workspace; the same cargo that runs this command.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        command.arg(subcommand).current_dir(&self.root);
        command
    }

    /// Builds the binary `name` of `package` and returns its path. Cargo's progress goes to standard error.
    pub(crate) fn build_binary(&self, package: &str, name: &str, profile: Profile) -> Result<PathBuf> {
        let mut cargo = self.cargo("build");
        cargo.args(["--locked", "--package", package, "--bin", name]);
        cargo.arg("--message-format=json-render-diagnostics");
        if matches!(profile, Profile::Release) {
            cargo.arg("--release");
        }
        let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
        let messages = child.stdout.take().context("cargo's output is not readable")?;
        let mut binary = None;
        for message in Message::parse_stream(BufReader::new(messages)) {
            if let Message::CompilerArtifact(artifact) = message.context("cargo's output is not readable")?
                && artifact.target.is_bin()
                && artifact.target.name == name
            {
                binary = artifact.executable;
            }
        }
        if !child.wait().context("cannot wait for cargo")?.success() {
            bail!("`{name}` does not build: see the messages above");
        }
        binary
            .map(Into::into)
            .with_context(|| format!("cargo built no binary `{name}`"))
    }
}
