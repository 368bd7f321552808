//! Room for the next checkpoint on a disk that is full.
//!
//! Invariant: the newest checkpoint stays, and nothing goes unless what may go would be enough.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use nix::sys::statvfs::statvfs;

use super::store::{About, Store};

/// What a file takes beyond its bytes, at most: a block, and one for its name.
const SLACK: u64 = 8192;
/// Bytes in what the system counts the room of a file in.
const SECTOR: u64 = 512;

impl Store {
    /// Removes one file, the least useful, so that `bytes` more may fit; false if none is to go for that. `coming` is what
    /// is to be written.
    pub(super) fn make_room(&mut self, bytes: u64, coming: About, error: &io::Error) -> bool {
        let candidates: Vec<(Option<u64>, PathBuf, u64)> = self
            .by_use(coming)
            .into_iter()
            .filter_map(|(number, path)| {
                let found = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
                Some((number, path, found.blocks() * SECTOR))
            })
            .collect();
        // What a quota leaves is not told.
        let free = (error.kind() == io::ErrorKind::StorageFull)
            .then(|| statvfs(self.directory()).ok())
            .flatten()
            .map_or(0, |disk| disk.blocks_available() * disk.fragment_size());
        let removable: u64 = candidates.iter().map(|(_, _, room)| room).sum();
        if free + removable < bytes + SLACK {
            return false;
        }
        for (number, path, _) in candidates {
            match fs::remove_file(&path) {
                Ok(()) => {
                    log::warn!(
                        "removed {}: there was no room for the next checkpoint",
                        path.display()
                    );
                    if let Some(number) = number {
                        self.forget(number);
                    }
                    return true;
                }
                Err(error) => log::warn!("{} cannot be removed: {error}", path.display()),
            }
        }
        false
    }

    /// What may go to make room, the least useful first: what would go after the next one anyway, what was set aside, what
    /// is old. Never the newest.
    fn by_use(&self, coming: About) -> Vec<(Option<u64>, PathBuf)> {
        let Some(newest) = self.numbers().next_back() else {
            return Vec::new();
        };
        let surplus = self.surplus(Some(coming));
        let rest = self.numbers().filter(|number| !surplus.contains(number));
        let (flows, old): (Vec<u64>, Vec<u64>) = rest.partition(|number| Some(*number) == self.last_flows());
        let good = |numbers: Vec<u64>| {
            let may_go = numbers.into_iter().filter(move |number| *number != newest);
            may_go.map(|number| (Some(number), self.path(number)))
        };
        let bad = self.bad().into_iter().map(|path| (None, path));
        good(surplus.clone())
            .chain(bad)
            .chain(good(old))
            .chain(good(flows))
            .collect()
    }
}
