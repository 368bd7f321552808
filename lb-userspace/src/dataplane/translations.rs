//! Maps `TRANSLATIONS`, `SOURCE_POOLS` and `NAT_SOURCES`: flows through `fullnat`, and what they are given places of.

use std::{collections::HashMap, net::IpAddr, ops::RangeInclusive, os::fd::AsFd};

use anyhow::{Context, Result, anyhow};
use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData};
use bytemuck::Zeroable;
use lb_common::abi::{Ends, MAX_NAT_SOURCES, SourcePool, Translation, map};

use super::{Dataplane, bpf};
use crate::plan::{TranslationTable, source_pools};

/// `BPF_EXIST`: an entry is written only where one is.
const EXISTING: u64 = 2;

/// Makes a plain structure one that aya can read and write.
macro_rules! pod {
    ($pod:ident $of:ident) => {
        #[derive(Clone, Copy, Debug, Zeroable)]
        #[repr(transparent)]
        struct $pod($of);

        // SAFETY: the structure is bytemuck::Pod: plain integers without padding.
        unsafe impl aya::Pod for $pod {}
    };
}

pod!(PodEnds Ends);
pod!(PodTranslation Translation);
pod!(PodPool SourcePool);

/// Flows through `fullnat`.
pub struct Translations(BpfHashMap<MapData, PodEnds, PodTranslation>);

/// Entries that are read by one system call: so many that calls cost little beside reading, so few that they need no
/// large buffers (416 KiB).
const BATCH: usize = 4096;

impl Translations {
    /// All entries. While packets come and go it is those of a moment, give or take some.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn entries(&self) -> Result<HashMap<Ends, Translation>> {
        let mut keys = vec![PodEnds::zeroed(); BATCH];
        let mut values = vec![PodTranslation::zeroed(); BATCH];
        let mut entries = HashMap::new();
        let mut next = None;
        loop {
            let (read, rest) = bpf::look_up_batch(&self.0, next, &mut keys, &mut values)
                .context("cannot read map TRANSLATIONS")?;
            let read = keys.iter().zip(&values).take(read);
            entries.extend(read.map(|(PodEnds(key), PodTranslation(entry))| (*key, *entry)));
            next = rest;
            if next.is_none() {
                return Ok(entries);
            }
        }
    }
}

impl TranslationTable for Translations {
    fn get(&self, key: &Ends) -> Option<Translation> {
        self.0
            .get(&PodEnds(*key), 0)
            .ok()
            .map(|PodTranslation(entry)| entry)
    }

    fn replace(&mut self, key: &Ends, entry: &Translation) {
        // The program may have removed it before.
        let _ = self.0.insert(PodEnds(*key), PodTranslation(*entry), EXISTING);
    }

    fn remove(&mut self, key: &Ends) {
        // The same.
        let _ = self.0.remove(&PodEnds(*key));
    }
}

impl Dataplane {
    /// Flows through `fullnat`.
    ///
    /// # Errors
    /// When the map is not there.
    pub fn translations(&self) -> Result<Translations> {
        let name = map::TRANSLATIONS;
        let Some(Map::HashMap(data)) = self.ebpf.map(name) else {
            return Err(anyhow!("the object holds no map {name}"));
        };
        let data = MapData::from_fd(data.fd().as_fd().try_clone_to_owned()?)?;
        Ok(Translations(Map::HashMap(data).try_into()?))
    }

    /// Has new flows through `fullnat` come from these addresses and ports. Flows that come from others go on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_source_pools(&mut self, addresses: &[IpAddr], ports: RangeInclusive<u16>) -> Result<()> {
        let (sources, pools) = source_pools(addresses, ports);
        self.write_pools([SourcePool::zeroed(); 2])?;
        let map = self
            .ebpf
            .map_mut(map::NAT_SOURCES)
            .context("no map NAT_SOURCES")?;
        let mut map: Array<&mut MapData, [u64; 2]> = map.try_into()?;
        for (index, address) in (0..MAX_NAT_SOURCES).zip(&sources) {
            map.set(index, address, 0)?;
        }
        self.write_pools(pools)
    }

    fn write_pools(&mut self, pools: [SourcePool; 2]) -> Result<()> {
        let map = self
            .ebpf
            .map_mut(map::SOURCE_POOLS)
            .context("no map SOURCE_POOLS")?;
        let mut map: Array<&mut MapData, PodPool> = map.try_into()?;
        for (index, pool) in (0..).zip(pools) {
            map.set(index, PodPool(pool), 0)?;
        }
        Ok(())
    }
}
