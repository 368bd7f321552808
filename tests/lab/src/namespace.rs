//! Anonymous network namespaces: held by a file descriptor, bound to no path, gone with the last holder.
//!
//! What must hold: the thread that calls into this module never changes its own namespace.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    os::unix::fs::MetadataExt,
    os::unix::process::CommandExt,
    panic::resume_unwind,
    process::Command,
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use super::sysctl;
use crate::process::Process;

/// A network namespace. A clone refers to the same namespace; the kernel removes it, with every link in it, when the
/// last clone, socket and process that uses it is gone.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: Arc<str>,
    file: Arc<File>,
}

impl Namespace {
    /// Creates a namespace with nothing but a loopback device, which is up. `name` is used in messages only.
    ///
    /// # Errors
    /// When the caller may not create namespaces: that needs `CAP_SYS_ADMIN`.
    pub fn new(name: &str) -> Result<Self> {
        let create = || -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot create a network namespace; run this as root (CAP_SYS_ADMIN)")?;
            File::open("/proc/thread-self/ns/net")
                .context("cannot open /proc/thread-self/ns/net; mount /proc")
        };
        let file =
            thread::scope(|scope| scope.spawn(create).join()).unwrap_or_else(|panic| resume_unwind(panic))?;
        let namespace = Self {
            name: name.into(),
            file: Arc::new(file),
        };
        namespace.set_sysctls(sysctl::QUIET)?;
        namespace.netlink(async |netlink| netlink.set_up("lo").await)?;
        Ok(namespace)
    }

    /// The name given at creation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inode that `/proc/PID/ns/net` shows for every process in this namespace.
    ///
    /// # Errors
    /// When the kernel refuses to describe the held descriptor.
    pub fn inode(&self) -> Result<u64> {
        Ok(self
            .file
            .metadata()
            .with_context(|| format!("cannot stat the namespace {}", self.name))?
            .ino())
    }

    /// Runs `body` in a thread inside the namespace and waits for it. Sockets that it makes stay in the namespace.
    /// A panic of `body` continues in the caller.
    ///
    /// # Errors
    /// When the thread cannot be started or cannot enter the namespace; `body` has not run then.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        let inside = || self.enter().map(|()| body());
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .spawn_scoped(scope, inside)
                .context("cannot start a thread")?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs the future that `body` returns inside the namespace, on a tokio runtime of its own, and waits for it.
    ///
    /// # Errors
    /// As [`Namespace::run`], and when the runtime cannot be built.
    pub fn block_on<T: Send>(&self, body: impl AsyncFnOnce() -> T + Send) -> Result<T> {
        self.run(|| -> Result<T> { Ok(runtime()?.block_on(body())) })?
    }

    /// Starts a background thread inside the namespace which runs the future that `body` returns.
    ///
    /// # Errors
    /// When the thread cannot be started or cannot enter the namespace.
    pub fn spawn_async<T: Send + 'static>(
        &self,
        body: impl AsyncFnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T>>> {
        let namespace = self.clone();
        thread::Builder::new()
            .name(self.name.to_string())
            .spawn(move || {
                namespace.enter()?;
                Ok(runtime()?.block_on(body()))
            })
            .with_context(|| format!("cannot start a thread for the namespace {}", self.name))
    }

    /// Starts `command` inside the namespace; it is killed when the returned guard is dropped or this process dies.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self, mut command: Command) -> Result<Process> {
        let file = Arc::clone(&self.file);
        let enter = move || Ok(setns(&file, CloneFlags::CLONE_NEWNET)?);
        // SAFETY: `enter` only makes the system call setns, which may be called between fork and exec; it neither
        // allocates nor takes a lock, and the descriptor lives in the closure.
        unsafe { command.pre_exec(enter) };
        Process::spawn(&self.name, command)
    }

    /// Moves the calling thread into the namespace; private, so that only threads made here ever move.
    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            anyhow!(
                "cannot enter the namespace {}: {errno}; run this as root",
                self.name
            )
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A single-threaded runtime: its tasks stay on the thread, and so in the namespace, that built it.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a tokio runtime")
}
