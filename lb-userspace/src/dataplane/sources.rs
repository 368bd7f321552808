//! Map `SOURCES`: lists of clients, entry by entry.

use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use aya::maps::{
    Map, MapData,
    lpm_trie::{Key, LpmTrie},
};
use lb_common::abi::{AclKey, AclVerdict, map};

use super::Dataplane;
use lb_core::plan::SourceEntry;

/// The map. The words of its keys are a [`AclKey`]'s.
pub(super) struct Sources(LpmTrie<MapData, [u32; 5], u32>);

impl Sources {
    pub(super) fn new(dataplane: &Dataplane) -> Result<Self> {
        let name = map::SOURCES;
        let Some(Map::LpmTrie(data)) = dataplane.ebpf.map(name) else {
            return Err(anyhow!("the object holds no trie {name}"));
        };
        let data = MapData::from_fd(data.fd().as_fd().try_clone_to_owned()?)?;
        Ok(Self(Map::LpmTrie(data).try_into()?))
    }

    /// Puts them in, the shortest last: who is not named is denied until the one for all others is there.
    ///
    /// # Errors
    /// When the kernel refuses: there is room, so only memory can be short.
    pub(super) fn insert(&mut self, entries: &[SourceEntry]) -> Result<()> {
        for entry in entries.iter().rev() {
            self.0
                .insert(&key(entry), entry.access.0, 0)
                .context("the kernel does not take a service's source list")?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, entries: &[SourceEntry]) {
        for entry in entries {
            if let Err(error) = self.0.remove(&key(entry)) {
                log::warn!("an entry of a source list that is not in use stays in memory: {error}");
            }
        }
    }

    /// Takes back what of a list has been put in.
    pub(super) fn remove_if_there(&mut self, entries: &[SourceEntry]) {
        for entry in entries {
            let _ = self.0.remove(&key(entry));
        }
    }

    pub(super) fn entries(&self) -> Vec<SourceEntry> {
        let entry = |(key, access): (Key<[u32; 5]>, u32)| SourceEntry {
            bits: key.prefix_len(),
            key: bytemuck::cast(key.data()),
            access: AclVerdict(access),
        };
        // Nobody else changes the map, and reading needs no memory: the kernel has no reason to refuse.
        self.0.iter().filter_map(Result::ok).map(entry).collect()
    }
}

fn key(entry: &SourceEntry) -> Key<[u32; 5]> {
    Key::new(entry.bits, bytemuck::cast::<AclKey, [u32; 5]>(entry.key))
}
