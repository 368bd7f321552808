//! Running a program as root: directly where we are root, through sudo where we are not.
//!
//! What must hold: only finished binaries are run with privilege, never cargo or a compiler.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use crate::setup::in_path;

/// What a program may need from the environment of the one who started it.
const PRESERVED: &str = "--preserve-env=RUST_LOG,RUST_BACKTRACE,NO_COLOR,TERM";

/// How root's privilege is had here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// This process has it.
    Root,
    /// sudo gives it, perhaps after asking for a password.
    Sudo,
}

impl Privilege {
    /// Finds out how to get privilege; an error where there is no way.
    pub(crate) fn find() -> Result<Self> {
        if geteuid().is_root() {
            Ok(Self::Root)
        } else if in_path("sudo") {
            Ok(Self::Sudo)
        } else {
            bail!(
                "attaching an XDP program needs root, and there is no sudo here: run the same command as root"
            );
        }
    }

    /// The command that runs `program` with privilege.
    pub(crate) fn command(self, program: &Path) -> Command {
        match self {
            Self::Root => Command::new(program),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.arg(PRESERVED).arg("--").arg(program);
                command
            }
        }
    }

    /// Becomes `command`, so that signals and the exit code are its own; returns only why it could not.
    pub(crate) fn exec(mut command: Command) -> anyhow::Error {
        let error = anyhow::Error::new(command.exec());
        error.context(format!("cannot run {}", command.get_program().display()))
    }
}
