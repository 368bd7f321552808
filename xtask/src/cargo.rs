//! The workspace, and the cargo runs in it.
//!
//! What must hold: cargo itself is asked where things are; no path of its target directory is guessed.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::{Path, PathBuf};
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
    Guest,
    Release,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Guest => "guest",
            Self::Release => "release",
        }
    }
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

    /// Builds `binaries`, which belong to `packages`, in one cargo run, so that they share their dependencies.
    /// Cargo's progress goes to standard error.
    pub(crate) fn build(&self, packages: &[&str], binaries: &[&str], profile: Profile) -> Result<Binaries> {
        let mut cargo = self.cargo("build");
        cargo.args(["--locked", "--message-format=json-render-diagnostics"]);
        cargo.args(packages.iter().flat_map(|package| ["--package", package]));
        cargo.args(binaries.iter().flat_map(|binary| ["--bin", binary]));
        cargo.args(["--profile", profile.name()]);
        Self::built_by(cargo, binaries)
    }

    /// Builds test binaries of `packages`, without running them. What the packages' tests ask of dependencies counts for
    /// all of them, so that naming the same packages as another run saves building them again.
    pub(crate) fn build_tests(
        &self,
        packages: &[&str],
        tests: &[&str],
        profile: Profile,
    ) -> Result<Binaries> {
        let mut cargo = self.cargo("test");
        cargo.args(["--locked", "--no-run", "--message-format=json-render-diagnostics"]);
        // The tests' own profile is `dev` by another name, and what it built is used again.
        if !matches!(profile, Profile::Dev) {
            cargo.args(["--profile", profile.name()]);
        }
        cargo.args(packages.iter().flat_map(|package| ["--package", package]));
        cargo.args(tests.iter().flat_map(|test| ["--test", test]));
        Self::built_by(cargo, tests)
    }

    /// Runs a cargo that builds `names`, and reads from its messages where they are.
    fn built_by(mut cargo: Command, names: &[&str]) -> Result<Binaries> {
        let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
        let messages = child.stdout.take().context("cargo's output is not readable")?;
        let mut built = BTreeMap::new();
        for message in Message::parse_stream(BufReader::new(messages)) {
            if let Message::CompilerArtifact(artifact) = message.context("cargo's output is not readable")?
                && let Some(executable) = artifact.executable
            {
                built.insert(artifact.target.name, executable.into());
            }
        }
        if !child.wait().context("cannot wait for cargo")?.success() {
            bail!("{} does not build: see the messages above", names.join(" or "));
        }
        Ok(Binaries(built))
    }
}

/// Where cargo put the binaries it built, by name.
pub(crate) struct Binaries(BTreeMap<String, PathBuf>);

impl Binaries {
    pub(crate) fn path(&self, name: &str) -> Result<&Path> {
        self.0
            .get(name)
            .map(PathBuf::as_path)
            .with_context(|| format!("cargo built no binary `{name}`"))
    }
}
