//! `lb run` by hand, for agents that are to refuse or that need an unusual start.

use std::{fs, process::Command, thread};

use lb_tests::{lab::Namespace, process::Process};
use tempfile::TempDir;

use super::{LIMIT, rig::lb, wait_until};

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
    /// Starts `lb run` with `arguments`, a socket and a state directory of its own unless they say otherwise.
    pub(crate) fn start(namespace: &Namespace, arguments: &[&str]) -> Self {
        let mut command = Command::new(lb());
        command.arg("run").args(arguments);
        Self::start_command(namespace, command)
    }

    /// Starts `command`, which becomes `lb run`.
    pub(crate) fn start_command(namespace: &Namespace, mut command: Command) -> Self {
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

    pub(crate) const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything it has printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("lb.log")).unwrap()
    }

    /// Waits until it serves.
    pub(crate) fn wait_until_it_serves(&mut self) {
        wait_until("lb serves", || {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("lb ended with {status}:\n{}", self.log());
            }
            self.log().contains("serving on")
        });
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
