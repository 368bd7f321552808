//! The dataplane in the kernel: loading the program, its maps as memory, its links, its counters.
//!
//! Invariant: what the maps say is decided elsewhere (`plan`); nothing here knows services or backends.

mod attach;
mod bpf;
mod counters;
mod explain;
mod mapped;
mod pins;
mod tables;

use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData},
    programs::Xdp,
};
use lb_common::abi::{PROGRAM, Reason, global, map};

pub use attach::{Attached, Mode, attach};
pub use counters::Counters;
pub use explain::{Explained, MAX_FRAME, MIN_FRAME};
pub use pins::Pins;
pub use tables::MappedTables;

use crate::plan::Capacity;

/// The object with the program and its maps, as the build made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_EBPF_OBJECT"));

/// The program and its maps, loaded.
#[derive(Debug)]
pub struct Dataplane {
    ebpf: Ebpf,
}

impl Dataplane {
    /// Loads the program and makes its maps in the sizes of `capacity`, for flows hashed under `seed`.
    ///
    /// # Errors
    /// When the kernel refuses a map or the program; the message ends with the verifier's last words.
    pub fn load(capacity: &Capacity, seed: u64, debug: bool) -> Result<Self> {
        let (debug, service_bits) = (u64::from(debug), capacity.service_bits());
        let mut loader = EbpfLoader::new();
        loader
            .override_global(global::SEED, &seed, true)
            .override_global(global::SERVICE_BITS, &service_bits, true)
            .override_global(global::DEBUG, &debug, true)
            .map_max_entries(map::SERVICES4, capacity.service_lines())
            .map_max_entries(map::SERVICES6, capacity.service_lines())
            .map_max_entries(map::SLOTS, capacity.slot_lines())
            .map_max_entries(map::TARGETS, capacity.target_cells())
            .map_max_entries(map::POOLS, capacity.numbers())
            .map_max_entries(map::CELLS, capacity.target_cells())
            .map_max_entries(map::COUNTS, capacity.target_cells())
            .map_max_entries(map::REASONS, Reason::COUNT);
        let mut ebpf = loader.load(OBJECT).context(
            "the kernel refused the dataplane's maps: lb needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON) and \
             Linux 5.15 or later",
        )?;
        xdp(&mut ebpf)?
            .load()
            .context("the kernel refused the XDP program")?;
        Ok(Self { ebpf })
    }

    /// The program.
    ///
    /// # Errors
    /// Never in practice: the object holds it.
    pub fn program(&self) -> Result<&Xdp> {
        let program = self
            .ebpf
            .program(PROGRAM)
            .ok_or_else(|| anyhow!("the object holds no program {PROGRAM}"))?;
        Ok(program.try_into()?)
    }

    /// The program, to attach it.
    ///
    /// # Errors
    /// As for [`Dataplane::program`].
    pub fn program_mut(&mut self) -> Result<&mut Xdp> {
        xdp(&mut self.ebpf)
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
    /// When the kernel refuses it, as it does for devices without `ndo_xdp_xmit`.
    pub fn allow_egress(&mut self, interface: u32) -> Result<()> {
        let egress = self
            .ebpf
            .map_mut(map::EGRESS)
            .ok_or_else(|| anyhow!("no map {}", map::EGRESS))?;
        let mut egress: aya::maps::xdp::DevMapHash<&mut MapData> = egress.try_into()?;
        egress.insert(interface, interface, None, 0)?;
        Ok(())
    }

    /// Begins to log what the program says; only of use after [`Dataplane::load`] with `debug`.
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

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf
        .program_mut(PROGRAM)
        .ok_or_else(|| anyhow!("the object holds no program {PROGRAM}"))?;
    Ok(program.try_into()?)
}

fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::DevMapHash(data) | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}
