//! Child processes that cannot outlive this process, however it ends.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus},
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
    },
    unistd::{Pid, getpid, getppid},
};

use crate::patience::patient;

/// How often a wait with a deadline looks at the child.
const POLL: Duration = Duration::from_millis(5);

/// A running child; dropping it kills it with SIGKILL and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `command`. `name` is used in messages only.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let parent = getpid();
        let die_with_parent = move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the request above; nobody would send the signal then.
            if getppid() == parent {
                Ok(())
            } else {
                Err(io::Error::other("the parent is gone"))
            }
        };
        // SAFETY: `die_with_parent` makes the system calls prctl and getppid only, which may be called between fork
        // and exec; its error needs memory only where the child is about to exit.
        unsafe { command.pre_exec(die_with_parent) };
        // Ctrl-C on the terminal is for this process alone; it ends its children in good order.
        command.process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = spawn_from_lasting_thread(command)
            .with_context(|| format!("cannot start {program} for {name}; is it built?"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, to take its pipes from.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// When the process has been reaped.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {} ({pid})", self.name))
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Waits for the end of the process, at most for `limit`.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let limit = patient(limit);
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(anyhow!("{} still runs after {limit:?}", self.name));
            }
            thread::sleep(POLL);
        }
    }

    /// Kills the process with SIGKILL and reaps it. True if the signal ended it, false if it had ended before.
    ///
    /// # Errors
    /// When the kernel refuses the signal.
    pub fn kill(&mut self) -> Result<bool> {
        self.child
            .kill()
            .with_context(|| format!("cannot kill {}", self.name))?;
        let status = self
            .child
            .wait()
            .with_context(|| format!("cannot wait for {}", self.name))?;
        Ok(status.signal() == Some(libc::SIGKILL))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            log::warn!("{error:#}");
        }
    }
}

/// Lets this process, and children that it starts later, have `files` files open at once.
///
/// # Errors
/// When that is more than its hard limit.
pub fn raise_file_limit(files: u64) -> Result<()> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("cannot tell how many files may be open")?;
    if soft >= files {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, files, hard)
        .with_context(|| format!("cannot have {files} files open at once; the limit (ulimit -Hn) is {hard}"))
}

type SpawnRequest = (Command, mpsc::Sender<io::Result<Child>>);

/// The kernel sends the death signal when the *thread* that forked ends, so one thread that lasts as long as the
/// process forks all children.
static SPAWNER: LazyLock<mpsc::Sender<SpawnRequest>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<SpawnRequest>();
    thread::spawn(move || {
        for (mut command, answer) in requests {
            // A requester that is gone drops the child's pipes; the child dies with this process.
            let _ = answer.send(command.spawn());
        }
    });
    sender
});

fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    let (answer, child) = mpsc::channel();
    SPAWNER
        .send((command, answer))
        .map_err(|_| io::Error::other("the thread that starts children is gone"))?;
    child.recv().map_err(io::Error::other)?
}
