//! The unix socket the API is served on.
//!
//! Invariant: nobody connects whom its mode does not admit, and no running agent loses its socket to another.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::fd::OwnedFd,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent has it.
    #[error("another agent answers on {0}: stop it first, or give this one another --socket")]
    InUse(PathBuf),
    /// Something else has that name.
    #[error("{0} exists and is no socket: remove it, or give another --socket")]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        error: io::Error,
    },
}

/// A listening socket; its name goes away with it.
#[derive(Debug)]
pub struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Tells our socket from a successor's.
    inode: u64,
    /// Held as long as the socket lives.
    lock: Flock<File>,
}

/// What the lock's name ends with.
const LOCK: &str = ".lock";

impl ApiSocket {
    /// Who may connect: owner and group.
    const MODE: u32 = 0o660;
    /// Connections that may wait to be accepted.
    const BACKLOG: i32 = 1024;

    /// Listens at `path`, in place of a dead socket if there is one. Needs a tokio runtime.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        make_parent(path)?;
        let lock = lock(path)?;
        refuse_living(path)?;
        let (listener, inode) = take_place(path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode,
            lock,
        })
    }

    /// Whether clients find it by its name.
    pub(super) fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }

    /// Listens anew, unless somebody else answers there.
    pub(super) fn listen_again(&mut self) -> Result<(), SocketError> {
        make_parent(&self.path)?;
        if !beside(&self.path, LOCK).exists() {
            // Whoever has removed the socket has removed this, too.
            self.lock = lock(&self.path)?;
        }
        if !self.is_in_place() {
            refuse_living(&self.path)?;
        }
        (self.listener, self.inode) = take_place(&self.path)?;
        Ok(())
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        if self.is_in_place() {
            // Nothing is lost when it stays: the next agent finds it dead.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn make_parent(path: &Path) -> Result<(), SocketError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
    made.map_err(io_error("create", parent))
}

/// Listens in the place of a dead socket, if there is one; the new one's inode tells it from others.
fn take_place(path: &Path) -> Result<(UnixListener, u64), SocketError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", path)(error));
        }
        _ => (),
    }
    let listener = listen(path).map_err(io_error("listen on", path))?;
    let found = fs::symlink_metadata(path).map_err(io_error("look at", path))?;
    Ok((listener, found.ino()))
}

/// Nobody can connect before `listen`, so nobody meets the socket before it has its mode.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(ApiSocket::MODE))?;
    socket.listen(ApiSocket::BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(OwnedFd::from(socket)))
}

/// Keeps two agents that start at once from both finding the name free.
fn lock(path: &Path) -> Result<Flock<File>, SocketError> {
    let name = beside(path, LOCK);
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&name);
    let file = opened.map_err(io_error("open", &name))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => SocketError::InUse(path.to_owned()),
        errno => io_error("lock", &name)(errno.into()),
    })
}

fn refuse_living(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at", path)(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) => (),
    }
    match UnixStream::connect(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        Ok(_) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |error| SocketError::Io { action, path, error }
}
