//! The directory of checkpoints: numbered files, the highest number is the newest.
//!
//! Invariant: a file comes to its name whole and on disk (written beside, synchronised, renamed, directory
//! synchronised). What cannot be used is renamed, not removed; what goes, goes only after a newer file is on disk, or to
//! make room for it (`room`).

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{
    files::{Name, is_full, is_of_the_disk, lock, names, place},
    format::{self, Checkpoint, Unusable},
    state::{SavedFlows, SavedState},
};

/// Below the state directory.
const DIRECTORY: &str = "checkpoints";
/// Where a file is written before it gets its name; there is one writer.
const BESIDE: &str = "next.tmp";
/// The highest number that is given; when it is reached, the files get the numbers from 1 on.
const HIGHEST: u64 = 9_999_999_999;
/// Most files that are set aside and kept; of more, the oldest go.
const KEEP_BAD: usize = 16;

/// A checkpoint that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenCheckpoint {
    /// Its number.
    pub number: u64,
    /// The generation of its desired state.
    pub generation: u64,
    /// The length of its file.
    pub bytes: u64,
}

/// Why a checkpoint was not written; those that were there are there.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("{}: {error}: {}", path.display(), remedy(error))]
    Io {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It has no form in a file.
    #[error(transparent)]
    Content(#[from] Unusable),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or start lb with another --state-dir",
        io::ErrorKind::PermissionDenied => "let lb write there, or start it with another --state-dir",
        _ => "see that this file system is in order",
    }
}

/// A file that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The directory, with the right to write.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    keep: usize,
    /// The files that are not set aside.
    files: BTreeMap<u64, About>,
    /// The highest number ever seen, set aside or not.
    last: u64,
    /// Keeps others out; released by the system when the process is gone, however that ends. Absent where the disk takes
    /// nothing, not even that.
    lock: Option<File>,
}

/// What is known of a file without reading all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// The generation of its desired state; absent where that cannot be read.
    generation: Option<u64>,
    has_flows: bool,
}

/// The directory of checkpoints below a state directory.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join(DIRECTORY)
}

impl Store {
    /// Opens the directory below `state_dir`, or makes it; keeps the last `keep` checkpoints. On a disk that takes nothing
    /// (read-only, full, failing) what is there can be read all the same.
    ///
    /// # Errors
    /// When it can neither be read nor made, or another process has it.
    pub fn open(state_dir: &Path, keep: usize) -> io::Result<Self> {
        let mut store = Self {
            directory: directory(state_dir),
            keep,
            files: BTreeMap::new(),
            last: 0,
            lock: None,
        };
        match store.hold() {
            Err(error) if is_of_the_disk(&error) => {
                log::warn!(
                    "no checkpoints can be written in {}: {error}",
                    store.directory.display()
                );
                match store.scan() {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            held => held?,
        }
        Ok(store)
    }

    /// Makes the directory if need be, takes it, and looks what is there.
    fn hold(&mut self) -> io::Result<()> {
        if let Some(state_dir) = self.directory.parent() {
            fs::create_dir_all(state_dir)?;
        }
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !self.directory.is_dir() => {
                return Err(error);
            }
            _ => {}
        }
        self.lock = Some(lock(&self.directory)?);
        // What a crash left beside was never a checkpoint.
        if let Err(error) = fs::remove_file(self.directory.join(BESIDE))
            && error.kind() != io::ErrorKind::NotFound
            && !is_of_the_disk(&error)
        {
            log::warn!("{}: {error}", self.directory.join(BESIDE).display());
        }
        self.scan()
    }

    fn scan(&mut self) -> io::Result<()> {
        let found = names(&self.directory)?;
        let about = |name: &Name| {
            let header = format::read_header(&self.directory.join(name.file())).ok();
            About {
                generation: header.map(|header| header.generation()),
                has_flows: header.is_some_and(|header| header.has_flows()),
            }
        };
        let good = found.iter().filter(|name| !name.aside);
        self.files = good.map(|name| (name.number, about(name))).collect();
        self.last = found.iter().map(|name| name.number).max().unwrap_or(0);
        Ok(())
    }

    /// Writes the next checkpoint; it is on disk when this returns. Then those that are not worth keeping go.
    ///
    /// # Errors
    /// Why it could not; nothing has changed then.
    pub fn write(
        &mut self,
        state: &SavedState,
        flows: Option<&SavedFlows>,
    ) -> Result<WrittenCheckpoint, WriteError> {
        let bytes = format::encode(state, flows)?;
        let number = self.next_number().map_err(|error| WriteError::Io {
            path: self.directory.clone(),
            error,
        })?;
        let about = About {
            generation: Some(state.generation),
            has_flows: flows.is_some(),
        };
        let (beside, path) = (self.directory.join(BESIDE), self.path(number));
        while let Err(error) = place(&bytes, &beside, &path) {
            // What is half written only takes room. If it stays, the next one takes its place.
            let _ = fs::remove_file(&beside);
            if !is_full(&error) || !self.make_room(bytes.len() as u64, about, &error) {
                return Err(WriteError::Io { path, error });
            }
        }
        self.last = number;
        self.files.insert(number, about);
        self.prune();
        Ok(WrittenCheckpoint {
            number,
            generation: state.generation,
            bytes: bytes.len() as u64,
        })
    }

    /// The newest good checkpoint with its number; newer ones that cannot be used are set aside.
    pub fn newest(&mut self) -> (Option<(u64, Checkpoint)>, Vec<SetAside>) {
        self.newest_of(|_| true)
    }

    /// The newest good checkpoint that has flows. They are written less often than the state.
    pub fn newest_with_flows(&mut self) -> (Option<(u64, Checkpoint)>, Vec<SetAside>) {
        self.newest_of(|about| about.has_flows)
    }

    fn newest_of(&mut self, wanted: impl Fn(&About) -> bool) -> (Option<(u64, Checkpoint)>, Vec<SetAside>) {
        let mut aside = Vec::new();
        let candidates = self.files.iter().rev().filter(|(_, about)| wanted(about));
        let candidates: Vec<u64> = candidates.map(|(number, _)| *number).collect();
        for number in candidates {
            match format::read(&self.path(number)) {
                Ok(checkpoint) => return (Some((number, checkpoint)), aside),
                Err(unusable) => aside.push(self.set_aside(number, &unusable)),
            }
        }
        (None, aside)
    }

    /// The number of the next file.
    fn next_number(&mut self) -> io::Result<u64> {
        if self.lock.is_none() {
            self.hold()?;
        }
        if self.last >= HIGHEST {
            self.renumber()?;
        }
        Ok(self.last + 1)
    }

    /// Gives the files the numbers from 1 on, in their order. Each gets a lower one than it had, or the same, so that none
    /// takes another's.
    fn renumber(&mut self) -> io::Result<()> {
        log::warn!(
            "the numbers of checkpoints begin anew: one had the number {}",
            self.last
        );
        for aside in [false, true] {
            let found = names(&self.directory)?;
            let found = found
                .into_iter()
                .filter(|name| name.aside == aside && name.number > 0);
            for (name, number) in found.zip(1..) {
                let to = Name { number, aside };
                fs::rename(self.directory.join(name.file()), self.directory.join(to.file()))?;
            }
        }
        self.scan()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The numbers of all files that are not set aside.
    pub(super) fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.files.keys().copied()
    }

    /// The number of the last file that has flows.
    pub(super) fn last_flows(&self) -> Option<u64> {
        let mut newest_first = self.files.iter().rev();
        newest_first
            .find(|(_, about)| about.has_flows)
            .map(|(number, _)| *number)
    }

    /// The files that are set aside, the oldest first.
    pub(super) fn bad(&self) -> Vec<PathBuf> {
        let names = names(&self.directory).unwrap_or_default();
        let bad = names.into_iter().filter(|name| name.aside);
        bad.map(|name| self.directory.join(name.file())).collect()
    }

    pub(super) fn forget(&mut self, number: u64) {
        self.files.remove(&number);
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        let name = Name { number, aside: false };
        self.directory.join(name.file())
    }

    /// Renames a file that cannot be used. One that cannot even be read stays: that may pass.
    fn set_aside(&mut self, number: u64, unusable: &Unusable) -> SetAside {
        let path = self.path(number);
        let reason = unusable.to_string();
        if matches!(unusable, Unusable::Io(_)) {
            return SetAside { path, reason };
        }
        let aside = self.directory.join(Name { number, aside: true }.file());
        match fs::rename(&path, &aside) {
            Ok(()) => {
                self.files.remove(&number);
                SetAside { path: aside, reason }
            }
            Err(error) => {
                log::warn!("{} cannot be set aside: {error}", path.display());
                SetAside { path, reason }
            }
        }
    }

    /// What is neither among the last two, nor the last with flows, nor the last of its generation; and the oldest beyond
    /// the number to keep. So a health check that comes and goes does not push out earlier desired state. `coming` is the next one
    /// that will be there.
    pub(super) fn surplus(&self, coming: Option<About>) -> Vec<u64> {
        let there = self
            .files
            .iter()
            .rev()
            .map(|(number, about)| (Some(*number), *about));
        let newest_first = coming.map(|about| (None, about)).into_iter().chain(there);
        let last_flows = match coming {
            Some(About { has_flows: true, .. }) => None,
            _ => self.last_flows(),
        };
        let mut seen = HashSet::new();
        let mut kept = 0;
        let mut old = Vec::new();
        for (place, (number, about)) in newest_first.enumerate() {
            let of_value = seen.insert(about.generation) || place < 2;
            if of_value && kept < self.keep {
                kept += 1;
            } else if number != last_flows {
                old.extend(number);
            }
        }
        old.reverse();
        old
    }

    fn prune(&mut self) {
        for number in self.surplus(None) {
            let path = self.path(number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::warn!("{} cannot be removed: {error}", path.display());
                }
                _ => drop(self.files.remove(&number)),
            }
        }
        self.prune_bad();
    }

    fn prune_bad(&self) {
        for path in self.bad().into_iter().rev().skip(KEEP_BAD) {
            log::warn!(
                "removing {}: more than {KEEP_BAD} files are set aside",
                path.display()
            );
            if let Err(error) = fs::remove_file(&path) {
                log::warn!("{} cannot be removed: {error}", path.display());
            }
        }
    }
}
