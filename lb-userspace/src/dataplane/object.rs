//! The object that the build made: its program, and the maps that it takes or is given.
//!
//! Invariant: [`shapes`] and [`load`] size maps by the same list, so that what is checked is what would be made.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::PathBuf,
};

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, ProgramArray},
    programs::Xdp,
};
use aya_obj::{EbpfSectionKind, Object, generated::bpf_map_type};
use lb_common::abi::{DETOUR_PROGRAM, Meta, PROGRAM, Reason, global, map};

use super::{
    flow_clock,
    macs::PodOwnMacs,
    refusal::{refused_maps, refused_program},
    tables::PodControl,
};
use lb_core::plan::Capacity;

/// The object with the program and its maps, as the build made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_EBPF_OBJECT"));

/// Entries of [`map::REASONS`]: room for reasons to come.
const REASONS: u32 = 64;
const _: () = assert!(Reason::COUNT <= REASONS);

/// The kernel sets this flag itself on some kinds of maps (`BPF_F_RDONLY_PROG`).
const SET_BY_THE_KERNEL: u32 = 1 << 7;

/// What must be equal of two maps, or they are not for the same program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) kind: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

impl Shape {
    /// The shape of a map that is there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(super) fn of(map: &MapData) -> Result<Self> {
        let info = map.info()?;
        Ok(Self {
            kind: info.map_type()? as u32,
            key_size: info.key_size(),
            value_size: info.value_size(),
            max_entries: info.max_entries(),
            flags: info.map_flags() & !SET_BY_THE_KERNEL,
        })
    }

    /// Whether it differs by having fewer entries, and by nothing else.
    pub(super) fn is_smaller_than(&self, other: &Self) -> bool {
        let max_entries = other.max_entries;
        self.max_entries < max_entries && Self { max_entries, ..*self } == *other
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            key_size,
            value_size,
            max_entries,
            flags,
        } = self;
        write!(
            f,
            "{max_entries} × ({key_size} + {value_size}) bytes, kind {kind}, flags {flags:#x}"
        )
    }
}

/// What of a program is chosen when it is loaded, and may be another for the next one on the same maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether it logs every packet.
    pub debug: bool,
    /// ICMP errors and resets that it may make a second, on all CPUs together.
    pub icmp_rate: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            debug: false,
            icmp_rate: 1000,
        }
    }
}

/// The sizes that `meta` asks for.
pub(super) const fn capacity(meta: &Meta) -> Capacity {
    Capacity {
        services: meta.services,
        targets: meta.targets,
        slots: meta.slots,
        flows: meta.flows,
        nat_flows: meta.nat_flows,
    }
}

/// Maps whose size is chosen when they are made.
fn sizes(capacity: &Capacity) -> [(&'static str, u32); 16] {
    [
        (map::SERVICES4, capacity.service_lines()),
        (map::SERVICES6, capacity.service_lines()),
        (map::SLOTS, capacity.slot_lines()),
        (map::PREVIOUS, capacity.slot_lines()),
        (map::FLOWS, capacity.flow_lines()),
        (map::TRACKING, capacity.numbers()),
        (map::TARGETS, capacity.target_cells()),
        (map::TAGS, capacity.target_cells()),
        (map::POOLS, capacity.numbers()),
        (map::CELLS, capacity.target_cells()),
        (map::OPTIONS, capacity.numbers()),
        (map::QUIC, capacity.quic_sets()),
        (map::SERVERS, capacity.server_lines()),
        (map::COUNTS, capacity.target_cells()),
        (map::TRANSLATIONS, capacity.translations()),
        (map::REASONS, REASONS),
    ]
}

/// Every map that has to outlive a program, as [`load`] would make it for `meta`. The others belong to one loaded
/// program: its constants, and the buffer of its log.
///
/// # Errors
/// Never in practice: the object is part of this binary.
pub(super) fn shapes(meta: &Meta) -> Result<BTreeMap<String, Shape>> {
    let object = Object::parse(OBJECT).context("the object that the build made cannot be read")?;
    let sizes: HashMap<&str, u32> = sizes(&capacity(meta)).into();
    let lasting = object.maps.iter().filter(|(_, map)| {
        map.section_kind() != EbpfSectionKind::Rodata
            && map.map_type() != bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32
    });
    let shape = |(name, map): (&String, &aya_obj::Map)| {
        let devices = map.map_type() == bpf_map_type::BPF_MAP_TYPE_DEVMAP_HASH as u32;
        let shape = Shape {
            kind: map.map_type(),
            key_size: map.key_size(),
            // aya makes them with room for a program beside the interface.
            value_size: if devices { 8 } else { map.value_size() },
            max_entries: sizes.get(name.as_str()).copied().unwrap_or(map.max_entries()),
            flags: map.map_flags() & !SET_BY_THE_KERNEL,
        };
        (name.clone(), shape)
    };
    Ok(lasting.map(shape).collect())
}

/// Maps that are there already, for a program to be loaded with them. It makes the others.
pub(super) struct Present {
    /// Where each is pinned, by name.
    pub(super) pins: BTreeMap<String, PathBuf>,
    /// What [`map::CONTROL`] holds. Loading writes the section's first content into the map, which has to be what it
    /// holds already, or packets would meet zeros for a moment.
    pub(super) control: PodControl,
    /// Maps that an earlier version made smaller, if at all: they are made anew. With what there was.
    pub(super) grown: BTreeMap<String, Option<MapData>>,
    /// What [`map::OWN_MACS`] holds, if it is there.
    pub(super) own_macs: Option<PodOwnMacs>,
}

/// Loads the programs, and makes the maps that it is not given.
///
/// # Errors
/// When the kernel refuses a map or the program; the message ends with the verifier's last words.
pub(super) fn load(meta: &Meta, settings: Settings, present: Option<&Present>) -> Result<Ebpf> {
    let capacity = capacity(meta);
    let (debug, service_bits) = (u64::from(settings.debug), capacity.service_bits());
    let flow_lines = capacity.flow_lines();
    let flow_budget = flow_clock::per_cpu(capacity.flow_budget(), meta.clock_shift)?;
    let answer_budget = match settings.icmp_rate {
        0 => 0,
        rate => flow_clock::per_cpu(rate, meta.clock_shift)?,
    };
    let mut loader = EbpfLoader::new();
    loader
        .override_global(global::SEED, &meta.seed, true)
        .override_global(global::SERVICE_BITS, &service_bits, true)
        .override_global(global::CLOCK_SHIFT, &meta.clock_shift, true)
        .override_global(global::FLOW_LINES, &flow_lines, true)
        .override_global(global::FLOW_BUDGET, &flow_budget, true)
        .override_global(global::ANSWER_BUDGET, &answer_budget, true)
        .override_global(global::DEBUG, &debug, true);
    for (name, entries) in sizes(&capacity) {
        loader.map_max_entries(name, entries);
    }
    if let Some(Present {
        pins,
        control,
        own_macs,
        ..
    }) = present
    {
        loader.override_global(global::CONTROL, control, true);
        if let Some(own_macs) = own_macs {
            loader.override_global(global::OWN_MACS, own_macs, true);
        }
        for (name, path) in pins {
            loader.map_pin_path(name, path.as_path());
        }
    }
    let mut ebpf = loader.load(OBJECT).map_err(refused_maps)?;
    for name in [PROGRAM, DETOUR_PROGRAM] {
        program(&mut ebpf, name)?
            .load()
            .map_err(|error| refused_program(name, error))?;
    }
    Ok(ebpf)
}

/// Makes the program for detours in `ebpf` the one that packets find.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn install_detour(ebpf: &mut Ebpf) -> Result<()> {
    let detour = program(ebpf, DETOUR_PROGRAM)?.fd()?.try_clone()?;
    let programs = ebpf
        .map_mut(map::DETOURS)
        .context("the object holds no map DETOURS")?;
    ProgramArray::try_from(programs)?.set(0, &detour, 0)?;
    Ok(())
}

/// The program of that name in `ebpf`.
///
/// # Errors
/// Never in practice: the object holds it.
pub(super) fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| anyhow!("the object holds no program {name}"))?;
    Ok(program.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LLVM makes a function of its own of what it finds too large to inline, and each packet pays for the call: 8 ns of 45
    /// when that became of the program itself. Functions that are meant to be have names of ours.
    #[test]
    fn no_packet_pays_for_a_call_that_nobody_asked_for() {
        /// Only what writes debugging output may be such a function.
        const DEBUG: &str = "5leave";
        let object = Object::parse(OBJECT).unwrap();
        let names = object.functions.values().map(|function| function.name.as_str());
        let (mangled, named): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with("_R"));
        assert!(named.contains(&"lb_look_up4"), "{named:?}");
        let unmeant: Vec<_> = mangled.iter().filter(|name| !name.contains(DEBUG)).collect();
        assert!(unmeant.is_empty(), "add #[inline(always)] to {unmeant:?}");
    }

    #[test]
    fn everything_but_what_belongs_to_one_program_lasts() {
        let meta = Meta {
            services: 100,
            targets: 1000,
            slots: 65_536,
            flows: 4096,
            nat_flows: 4096,
            ..Meta::EMPTY
        };
        let shapes = shapes(&meta).unwrap();
        for name in [map::CONTROL, map::SERVICES4, map::SLOTS, map::ROUTES, map::EGRESS] {
            assert!(shapes.contains_key(name), "{name} of {:?}", shapes.keys());
        }
        assert!(!shapes.contains_key(".rodata") && !shapes.contains_key("AYA_LOGS"));
        assert_eq!(shapes[map::TARGETS].max_entries, capacity(&meta).target_cells());
        assert_eq!(shapes[map::META].value_size as usize, size_of::<Meta>());
    }
}
