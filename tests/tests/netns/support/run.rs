//! `lb run` by hand, for agents that are to refuse or that need an unusual start.

use std::{fs, process::Command, thread};

use lb_lab::{Namespace, process::Process};
use tempfile::TempDir;

use super::{LIMIT, rig::lb};

/// An `lb run`; dropping it kills it.
#[derive(Debug)]
pub(crate) struct LbRun {
    process: Process,
    directory: TempDir,
}

/// How an `lb run` ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// All that it printed.
    pub(crate) log: String,
}

impl LbRun {
    /// Starts `lb run` with `arguments`, a socket and a state directory of its own and without pins unless they say
    /// otherwise.
    pub(crate) fn start(namespace: &Namespace, arguments: &[&str]) -> Self {
        let mut command = Command::new(lb());
        command.arg("run").args(arguments);
        if !arguments.contains(&"--pin-dir") {
            command.arg("--ephemeral");
        }
        let directory = TempDir::new().unwrap();
        let log = fs::File::create(directory.path().join("lb.log")).unwrap();
        if !command.get_args().any(|argument| argument == "--socket") {
            command.arg("--socket").arg(directory.path().join("lb.sock"));
        }
        command.arg("--state-dir").arg(directory.path().join("state"));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let process = namespace.spawn(command).unwrap();
        Self { process, directory }
    }

    /// Everything it has printed so far.
    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("lb.log")).unwrap()
    }

    /// Waits until it ends.
    pub(crate) fn wait(mut self) -> Ended {
        let status = match self.process.wait(LIMIT) {
            Ok(status) => status,
            Err(error) => panic!("{error}; it printed:\n{}", self.log()),
        };
        Ended {
            code: status.code(),
            log: self.log(),
        }
    }
}

impl Drop for LbRun {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("lb run printed:\n{}", self.log());
        }
    }
}
