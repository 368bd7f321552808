//! Map `MACS` and its most used entries, which the program reads in place.
//!
//! Invariant: at every instant frames are accepted that were before and after a change; what an interface's entries
//! are not complete for is not refused there.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use lb_common::abi::{MAX_MACS, MacKey, OwnMacs, map};

use super::Dataplane;
use lb_core::plan::MacTable;

/// A [`MacKey`] that aya can write.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct PodKey(MacKey);

// SAFETY: `MacKey` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodKey {}

/// An [`OwnMacs`] that aya can write.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct PodOwnMacs(pub(super) OwnMacs);

// SAFETY: `OwnMacs` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodOwnMacs {}

impl Dataplane {
    /// Tells the program that frames to this host bear these MACs, and no others.
    ///
    /// # Errors
    /// When not all fit, or the kernel refuses: at the interfaces concerned nothing is refused then.
    pub fn set_macs(&self, table: &MacTable) -> Result<()> {
        let mut table = table.clone();
        let mut result = Ok(());
        let mut map = self.macs()?;
        let old: Vec<MacKey> = map
            .keys()
            .map(|key| Ok(key?.0))
            .collect::<Result<_, MapError>>()?;
        // What says that an interface's are all there comes after them, and goes before them.
        for key in table.entries.clone().into_iter().filter(|key| !is_mark(key)) {
            if let Err(error) = map.insert(PodKey(key), 0, 0) {
                table.forget(key.interface as u32);
                result = Err(error).with_context(|| format!("not all MACs fit: {MAX_MACS} do"));
            }
        }
        let (old_marks, old_macs): (Vec<MacKey>, Vec<MacKey>) = old
            .into_iter()
            .filter(|key| !table.entries.contains(key))
            .partition(is_mark);
        for key in old_marks {
            map.remove(&PodKey(key))?;
        }
        for key in table.entries.iter().filter(|key| is_mark(key)) {
            map.insert(PodKey(*key), 0, 0)?;
        }
        self.set_own_macs(table.own)?;
        for key in old_macs {
            map.remove(&PodKey(key))?;
        }
        result
    }

    fn macs(&self) -> Result<HashMap<MapData, PodKey, u32>> {
        let Some(Map::HashMap(macs)) = self.ebpf.map(map::MACS) else {
            bail!("the object holds no hash map {}", map::MACS);
        };
        let macs = MapData::from_fd(macs.fd().as_fd().try_clone_to_owned()?)?;
        Ok(Map::HashMap(macs).try_into()?)
    }

    /// A place that changes is emptied before, so that no copy that is read half made has one interface's number and
    /// another one's MAC.
    fn set_own_macs(&self, new: OwnMacs) -> Result<()> {
        let section = MapData::from_fd(self.array(map::OWN_MACS)?.fd().as_fd().try_clone_to_owned()?)?;
        let mut section: Array<MapData, PodOwnMacs> = Map::Array(section).try_into()?;
        let PodOwnMacs(old) = section.get(&0, 0)?;
        if old == new {
            return Ok(());
        }
        let mut between = old;
        for (place, new) in between.own.iter_mut().zip(new.own) {
            if *place != new {
                *place = OwnMacs::UNKNOWN.own[0];
            }
        }
        section.set(0, PodOwnMacs(between), 0)?;
        section.set(0, PodOwnMacs(new), 0)?;
        Ok(())
    }
}

/// Whether it is the entry that says that an interface's are known.
fn is_mark(key: &MacKey) -> bool {
    *key == MacKey::known(key.interface as u32)
}
