//! The dataplane in the kernel: loading the program, its maps as memory, its links, its counters, its life beyond the
//! agent.
//!
//! Invariant: what the maps say is decided elsewhere (`plan`); nothing here knows services or backends.

mod adopt;
mod attach;
mod bpf;
mod counters;
mod explain;
mod flow_clock;
mod hook;
mod macs;
mod mapped;
mod next_hops;
mod object;
mod persist;
mod pins;
mod reattach;
mod refusal;
mod remove;
mod sources;
mod tables;
mod translations;
mod uppers;

use std::{collections::BTreeSet, os::fd::AsFd};

use anyhow::{Result, anyhow};
use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, xdp::DevMapHash},
    programs::Xdp,
};
use lb_common::abi::{DETOUR_PROGRAM, Meta, PROGRAM, map};

pub use attach::Attached;
pub(crate) use bpf::XdpLink;
pub use counters::Counters;
pub use explain::Explained;
pub use hook::Mode;
pub(crate) use hook::hook;
pub use object::Settings;
pub use persist::DataplaneSource;
pub use pins::PinDir;
pub(crate) use pins::make_directory;
pub(crate) use refusal::{refused_maps, refused_program};
pub(crate) use remove::name_of;
pub use remove::{Removed, remove_all};
pub use tables::MappedTables;
pub use translations::Translations;

use attach::Link;
use lb_core::plan::Capacity;

/// Where a dataplane lives unless told otherwise.
pub const PIN_DIR: &str = "/sys/fs/bpf/lb";

/// The program and its maps, loaded, and what it is attached to.
#[derive(Debug)]
pub struct Dataplane {
    ebpf: Ebpf,
    meta: Meta,
    settings: Settings,
    origin: DataplaneSource,
    /// Where it lives on without this process; `None` if it does not.
    pins: Option<PinDir>,
    /// Maps that take the place of what an earlier version pinned.
    grown: Vec<String>,
    links: Vec<Link>,
}

impl Dataplane {
    /// Loads the program and makes its maps in the sizes of `capacity`, for flows hashed under `seed`. All of it ends
    /// with this process.
    ///
    /// # Errors
    /// When the kernel refuses a map or the program; the message ends with the verifier's last words.
    pub fn load(capacity: &Capacity, seed: u64, settings: Settings) -> Result<Self> {
        Self::make(None, capacity, seed, settings)
    }

    /// What gives its tables their meaning.
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The sizes of its tables.
    pub const fn capacity(&self) -> Capacity {
        object::capacity(&self.meta)
    }

    /// Whether it was made or taken over.
    pub const fn origin(&self) -> DataplaneSource {
        self.origin
    }

    /// The directory that it lives in without this process, if it does.
    pub const fn pins(&self) -> Option<&PinDir> {
        self.pins.as_ref()
    }

    /// The program that interfaces run.
    ///
    /// # Errors
    /// Never in practice: the object holds it.
    pub fn program(&self) -> Result<&Xdp> {
        self.program_called(PROGRAM)
    }

    /// The program for packets that take the detour.
    ///
    /// # Errors
    /// As for [`Dataplane::program`].
    pub fn detour_program(&self) -> Result<&Xdp> {
        self.program_called(DETOUR_PROGRAM)
    }

    fn program_called(&self, name: &str) -> Result<&Xdp> {
        let program = self
            .ebpf
            .program(name)
            .ok_or_else(|| anyhow!("the object holds no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// The program, to attach it.
    ///
    /// # Errors
    /// As for [`Dataplane::program`].
    pub fn program_mut(&mut self) -> Result<&mut Xdp> {
        object::program(&mut self.ebpf, PROGRAM)
    }

    /// The tables, mapped into memory.
    ///
    /// # Errors
    /// When mapping fails.
    pub fn tables(&self) -> Result<MappedTables> {
        MappedTables::new(self)
    }

    /// The counters.
    ///
    /// # Errors
    /// When the maps are not there.
    pub fn counters(&self) -> Result<Counters<'_>> {
        Counters::new(self)
    }

    /// Allows sending out of that interface.
    ///
    /// # Errors
    /// When there is no room for one more, or the kernel refuses it.
    pub fn allow_egress(&mut self, interface: u32) -> Result<()> {
        self.egress()?.insert(interface, interface, None, 0)?;
        Ok(())
    }

    /// Forbids sending out of all interfaces but these and those that the program runs on.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn forbid_other_egress(&mut self, keep: &BTreeSet<u32>) -> Result<()> {
        let runs: BTreeSet<u32> = self.links.iter().map(Link::interface).collect();
        let listed: Vec<u32> = self.egress()?.keys().collect::<Result<_, _>>()?;
        for interface in listed {
            if !keep.contains(&interface) && !runs.contains(&interface) {
                self.forbid_egress(interface)?;
            }
        }
        Ok(())
    }

    /// Forbids sending out of that interface.
    fn forbid_egress(&mut self, interface: u32) -> Result<()> {
        match self.egress()?.remove(interface) {
            // It was never allowed.
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn egress(&mut self) -> Result<DevMapHash<&mut MapData>> {
        let egress = self
            .ebpf
            .map_mut(map::EGRESS)
            .ok_or_else(|| anyhow!("no map {}", map::EGRESS))?;
        Ok(egress.try_into()?)
    }

    /// The interfaces that it is attached to, by index.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        self.links.iter().map(Link::interface).collect()
    }

    /// Begins to log what the program says; only of use after [`Dataplane::load`] with [`Settings::debug`].
    ///
    /// # Errors
    /// When the log's ring buffer is not there.
    pub fn log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        Ok(aya_log::EbpfLogger::init(&mut self.ebpf)?)
    }

    /// Every map with the kernel memory it takes (values only), largest first.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn memory(&self) -> Result<Vec<(String, u64)>> {
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!("{path}: {error}"))? as u64;
        let mut all = Vec::new();
        for (name, map) in self.ebpf.maps() {
            let copies = if matches!(map, Map::PerCpuArray(_)) {
                cpus
            } else {
                1
            };
            let Some(data) = data_of(map) else { continue };
            let info = data.info()?;
            // It takes memory as it fills, too.
            if info.map_flags() & BPF_F_NO_PREALLOC != 0 {
                continue;
            }
            let value = u64::from(info.value_size().next_multiple_of(8));
            all.push((name.to_owned(), value * u64::from(info.max_entries()) * copies));
        }
        all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Ok(all)
    }

    /// The program's [`lb_common::abi::Control`].
    fn control(&self) -> Result<Array<MapData, tables::PodControl>> {
        let section = MapData::from_fd(self.array(map::CONTROL)?.fd().as_fd().try_clone_to_owned()?)?;
        Ok(Map::Array(section).try_into()?)
    }

    fn array(&self, name: &str) -> Result<&MapData> {
        match self.ebpf.map(name) {
            Some(Map::Array(data)) => Ok(data),
            _ => Err(anyhow!("the object holds no array {name}")),
        }
    }
}

/// `BPF_F_NO_PREALLOC` (linux/bpf.h).
const BPF_F_NO_PREALLOC: u32 = 1;

fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::DevMapHash(data)
        | Map::RingBuf(data) => Some(data),
        // A trie takes memory as it fills.
        _ => None,
    }
}
