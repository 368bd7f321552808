//! The directory of a BPF file system that a dataplane lives in while no agent holds it.
//!
//! Invariant: whoever has a [`PinDir`] is the only one who has that directory; the kernel ends this with the process.
//!
//! | path | what |
//! |---|---|
//! | `maps/NAME` | the maps; all of them, as the directory gets its name when it is complete |
//! | `program` | the program, for other tools to look at: it runs by the links |
//! | `links/INDEX` | the program's link to the interface of that index |

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};

use super::bpf::XdpLink;

/// Bits of a mode that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A directory for pins, locked.
#[derive(Debug)]
pub struct PinDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl PinDir {
    /// Makes the directory if need be, for root only, and locks it.
    ///
    /// # Errors
    /// When it is on no BPF file system, others may write to it, or another agent has it.
    pub fn lock(path: &Path) -> Result<Self> {
        ensure_bpf(path)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Self::lock_existing(path)
    }

    /// Locks the directory if it is there.
    ///
    /// # Errors
    /// As [`PinDir::lock`].
    pub fn lock_if_there(path: &Path) -> Result<Option<Self>> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
            Ok(_) => {
                ensure_bpf(path)?;
                Self::lock_existing(path).map(Some)
            }
        }
    }

    fn lock_existing(path: &Path) -> Result<Self> {
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(path)
            .with_context(|| format!("cannot open the directory {}", path.display()))?;
        let found = directory.metadata()?;
        ensure!(
            found.uid() == geteuid().as_raw() && found.mode() & WRITABLE_BY_OTHERS == 0,
            "others may write to {}: run `chown root {0} && chmod 700 {0}`, or choose another --pin-dir",
            path.display()
        );
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err((_, Errno::EWOULDBLOCK)) => bail!(
                "the dataplane in {} is in the hands of {}: stop that agent first, or give this one another --pin-dir",
                path.display(),
                holder(found.dev(), found.ino()).unwrap_or_else(|| "another process".to_owned())
            ),
            Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the maps are.
    pub(super) fn maps(&self) -> PathBuf {
        self.path.join("maps")
    }

    /// Where maps are put until all are there.
    pub(super) fn maps_to_be(&self) -> PathBuf {
        self.path.join("maps-new")
    }

    /// Where the program is.
    pub(super) fn program(&self) -> PathBuf {
        self.path.join("program")
    }

    /// Where a program is put until it takes the place of another.
    pub(super) fn program_to_be(&self) -> PathBuf {
        self.path.join("program-new")
    }

    /// Where links are.
    pub(crate) fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    /// Where the link to an interface is.
    pub(crate) fn link(&self, interface: u32) -> PathBuf {
        self.links().join(interface.to_string())
    }

    /// Every pinned link.
    ///
    /// # Errors
    /// When something else is among them.
    pub(crate) fn pinned_links(&self) -> Result<Vec<(PathBuf, XdpLink)>> {
        let open = |path: PathBuf| {
            let link = XdpLink::open(&path)
                .with_context(|| format!("{} is no link of lb: remove it with `rm`", path.display()))?;
            Ok((path, link))
        };
        entries(&self.links())?.into_iter().map(open).collect()
    }
}

/// The name of a map's pin: a BPF file system takes no dots, which the maps of data sections have in their names.
pub(super) fn pin_name(map: &str) -> String {
    map.trim_start_matches('.').replace('.', "-")
}

/// What is in a directory, in order of name; nothing where there is none.
///
/// # Errors
/// When it cannot be read.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.with_context(|| format!("cannot read {}", directory.display())),
    }
}

/// Makes a directory of ours, unless it is there.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Refuses a place that is on no BPF file system, before anything is made there.
fn ensure_bpf(path: &Path) -> Result<()> {
    let there = path
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or_else(|| Path::new("."));
    let kind = statfs(there)
        .with_context(|| format!("cannot look at {}", there.display()))?
        .filesystem_type();
    ensure!(
        kind == BPF_FS_MAGIC,
        "{} is not on a BPF file system, where the dataplane is kept: run `mount -t bpf bpf /sys/fs/bpf` (`ip netns exec` \
         hides the host's), choose another --pin-dir, or pin nothing (`lb run --ephemeral`, `lb decap` without --keep), and \
         the program ends with lb",
        path.display()
    );
    Ok(())
}

/// Who holds the lock on that file, as the kernel tells: "lb (pid 7)".
fn holder(device: u64, inode: u64) -> Option<String> {
    let file = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // 1: FLOCK  ADVISORY  WRITE 4711 00:2c:7 0 EOF
    let mut lines = locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let pid = lines.find_map(|fields| match fields.as_slice() {
        [_, "FLOCK", _, _, pid, place, ..] if *place == file => Some((*pid).to_owned()),
        _ => None,
    })?;
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", comm.trim_end()))
}
