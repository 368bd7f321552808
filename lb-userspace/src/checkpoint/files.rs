//! The files of a directory of checkpoints: their names, the lock, and how a file comes to its name.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Held by the agent whose directory it is.
const LOCK: &str = "lock";
const SUFFIX: &str = ".checkpoint";
const BAD: &str = ".bad";
const DIGITS: usize = 10;

/// Whether the disk has no room, as far as that error tells.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether the disk takes nothing, which is no reason not to read it.
pub(super) fn is_of_the_disk(error: &io::Error) -> bool {
    is_full(error)
        || error.kind() == io::ErrorKind::ReadOnlyFilesystem
        || error.raw_os_error() == Some(libc::EIO)
}

/// Makes this process the only one that writes to the directory.
pub(super) fn lock(directory: &Path) -> io::Result<File> {
    let path = directory.join(LOCK);
    let mut writing = OpenOptions::new();
    writing.write(true).create(true).truncate(false).mode(0o600);
    let file = match writing.open(&path) {
        // One that is there can be held on a disk that takes nothing.
        Err(error) if is_of_the_disk(&error) => File::open(&path).map_err(|_| error)?,
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another agent keeps its checkpoints there")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Writes `bytes` to `beside`, then moves them to `path`; all of it is on disk at the end.
pub(super) fn place(bytes: &[u8], beside: &Path, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// A file's name; in order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) number: u64,
    pub(super) aside: bool,
}

impl Name {
    pub(super) fn file(self) -> String {
        let bad = if self.aside { BAD } else { "" };
        format!("{:0DIGITS$}{SUFFIX}{bad}", self.number)
    }

    pub(super) fn parse(file: &str) -> Option<Self> {
        let (file, aside) = match file.strip_suffix(BAD) {
            Some(file) => (file, true),
            None => (file, false),
        };
        let digits = file.strip_suffix(SUFFIX)?;
        // Higher numbers have more digits; no other name is written for them.
        let good = digits.len() == DIGITS || digits.len() > DIGITS && !digits.starts_with('0');
        let good = good && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| good)?;
        Some(Self { number, aside })
    }
}

/// The names of all checkpoints in a directory, in order.
pub(super) fn names(directory: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.extend(entry?.file_name().to_str().and_then(Name::parse));
    }
    names.sort_unstable();
    Ok(names)
}
