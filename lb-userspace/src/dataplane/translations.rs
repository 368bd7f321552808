//! Maps `TRANSLATIONS`, `SOURCE_POOLS` and `NAT_SOURCES`: flows through `fullnat`, and what they are given places of.

use std::{collections::HashMap, net::IpAddr, ops::RangeInclusive, os::fd::AsFd};

use anyhow::{Context, Result, anyhow};
use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData};
use bytemuck::Zeroable;
use lb_common::abi::{FlowEnds, MAX_NAT_SOURCES, NatEntry, SnatPoolEntry, map};

use super::{Dataplane, bpf, tables};
use lb_core::plan::{SourceTables, SourceWrite, TranslationTable};

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

pod!(PodEnds FlowEnds);
pod!(PodTranslation NatEntry);
pod!(PodPool SnatPoolEntry);

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
    pub fn entries(&self) -> Result<HashMap<FlowEnds, NatEntry>> {
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
    fn get(&self, key: &FlowEnds) -> Option<NatEntry> {
        self.0
            .get(&PodEnds(*key), 0)
            .ok()
            .map(|PodTranslation(entry)| entry)
    }

    fn replace(&mut self, key: &FlowEnds, entry: &NatEntry) {
        // The program may have removed it before.
        let _ = self.0.insert(PodEnds(*key), PodTranslation(*entry), EXISTING);
    }

    fn remove(&mut self, key: &FlowEnds) {
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

    /// Has new flows through `fullnat` come from these addresses and ports. Flows that come from others go on, and new
    /// ones find places all the time: what is in force already is left alone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_source_pools(&mut self, addresses: &[IpAddr], ports: RangeInclusive<u16>) -> Result<()> {
        for write in self.source_tables()?.writes_to(addresses, ports) {
            match write {
                SourceWrite::Source(index, row) => self.sources_map()?.set(index, row, 0)?,
                SourceWrite::Pool(index, pool) => self.pools_map()?.set(index, PodPool(pool), 0)?,
                SourceWrite::Wait => tables::wait_for_readers(),
            }
        }
        Ok(())
    }

    /// Tells packets whether a flow of that family that finds no place is to be refused.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_exhausted(&mut self, v6: bool, is: bool) -> Result<()> {
        let mut map = self.pools_map()?;
        let PodPool(mut pool) = map.get(&u32::from(v6), 0)?;
        pool.first_port &= !SnatPoolEntry::EXHAUSTED;
        if is {
            pool.first_port |= SnatPoolEntry::EXHAUSTED;
        }
        map.set(u32::from(v6), PodPool(pool), 0)?;
        Ok(())
    }

    fn source_tables(&mut self) -> Result<SourceTables> {
        let mut tables = SourceTables::default();
        let map = self.sources_map()?;
        for (index, row) in (0..MAX_NAT_SOURCES).zip(&mut tables.sources) {
            *row = map.get(&index, 0)?;
        }
        let map = self.pools_map()?;
        for (index, pool) in (0..).zip(&mut tables.pools) {
            *pool = map.get(&index, 0)?.0;
        }
        Ok(tables)
    }

    fn sources_map(&mut self) -> Result<Array<&mut MapData, [u64; 2]>> {
        let map = self.ebpf.map_mut(map::NAT_SOURCES);
        Ok(map.context("no map NAT_SOURCES")?.try_into()?)
    }

    fn pools_map(&mut self) -> Result<Array<&mut MapData, PodPool>> {
        let map = self.ebpf.map_mut(map::SOURCE_POOLS);
        Ok(map.context("no map SOURCE_POOLS")?.try_into()?)
    }
}
