//! A dataplane's life beyond one agent: made, left behind, taken over, its program replaced.
//!
//! Invariant: whenever the agent dies, either nothing of it runs on, or all maps of what runs are pinned.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData};
use lb_common::abi::{Meta, PROGRAM, map};

use super::{
    Dataplane, Settings, adopt, counters, flow_clock, object,
    pins::{PinDir, make_directory, pin_name},
    remove::{self, Removed, remove_all, remove_directory},
    tables::PodMeta,
};
use lb_core::plan::Capacity;

/// Where a dataplane comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataplaneSource {
    /// It was made with empty tables.
    New,
    /// An earlier agent left it behind; its tables are as that one left them.
    Adopted,
}

impl Dataplane {
    /// Takes over the dataplane in `pins`, or makes a new one that will live there from [`Dataplane::attach`] on. One
    /// that is taken over keeps its seed and sizes, whatever `capacity` and `seed` say: see [`Dataplane::meta`].
    ///
    /// # Errors
    /// When what is there cannot be taken over; nothing has changed then. Otherwise as [`Dataplane::load`].
    pub fn open(pins: PinDir, capacity: &Capacity, seed: u64, settings: Settings) -> Result<Self> {
        let Some(adopt::FoundDataplane { meta, mut present }) = adopt::find(&pins, namespace()?)? else {
            return Self::make(Some(pins), capacity, seed, settings);
        };
        let mut ebpf = object::load(&meta, settings, Some(&present))?;
        let grown = std::mem::take(&mut present.grown);
        let names = grown.keys().cloned().collect();
        for (name, old) in grown {
            if let (map::REASONS, Some(old)) = (name.as_str(), old) {
                let reasons = ebpf
                    .map_mut(map::REASONS)
                    .context("the object holds no map REASONS")?;
                counters::go_on(reasons, old)?;
            }
        }
        Ok(Self {
            ebpf,
            meta,
            settings,
            origin: DataplaneSource::Adopted,
            pins: Some(pins),
            grown: names,
            links: Vec::new(),
        })
    }

    /// Makes a dataplane with empty tables.
    pub(super) fn make(
        pins: Option<PinDir>,
        capacity: &Capacity,
        seed: u64,
        settings: Settings,
    ) -> Result<Self> {
        let meta = Meta {
            seed,
            services: capacity.services,
            targets: capacity.targets,
            slots: capacity.slots,
            flows: capacity.flows,
            nat_flows: capacity.nat_flows,
            clock_shift: flow_clock::shift()?,
            namespace: namespace()?,
            ..Meta::EMPTY
        };
        let mut ebpf = object::load(&meta, settings, None)?;
        let of_itself = ebpf.map_mut(map::META).context("the object holds no map META")?;
        Array::<&mut MapData, PodMeta>::try_from(of_itself)?.set(0, PodMeta(meta), 0)?;
        object::install_detour(&mut ebpf)?;
        Ok(Self {
            ebpf,
            meta,
            settings,
            origin: DataplaneSource::New,
            pins,
            grown: Vec::new(),
            links: Vec::new(),
        })
    }

    /// Loads this binary's program once more and lets it run in place of the present one, on the same maps. No packet
    /// is lost, and none meets other tables than before. What [`Dataplane::log`] returned is of the old program.
    ///
    /// # Errors
    /// When the dataplane is not pinned, or the kernel refuses; the links that were not changed yet run the old one.
    pub fn replace(&mut self) -> Result<()> {
        let pins = self
            .pins
            .as_ref()
            .context("an ephemeral dataplane keeps its program")?;
        let present = adopt::present(pins, &self.meta)?;
        self.ebpf = object::load(&self.meta, self.settings, Some(&present))?;
        self.run_on_links()?;
        self.pin_program()
    }

    /// Pins what is not pinned yet: maps first, as links without maps are of no use to anybody.
    pub(super) fn persist(&mut self) -> Result<()> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        if let Some(old) = remove::remove_layout_1(pins)? {
            log::info!("removed {old}");
        }
        self.pin_maps()?;
        self.pin_grown()?;
        self.pin_program()?;
        self.pin_links()
    }

    /// Maps that have grown take the places of those of an earlier version, whose program keeps what it has. Each means the
    /// same beside any of the others, whenever this process dies.
    fn pin_grown(&mut self) -> Result<()> {
        let Some(pins) = self.pins.as_ref().filter(|_| !self.grown.is_empty()) else {
            return Ok(());
        };
        let beside = pins.maps_to_be();
        remove_directory(&beside)?;
        make_directory(&beside)?;
        for name in &self.grown {
            let map = self
                .ebpf
                .map(name)
                .with_context(|| format!("the object holds no map {name}"))?;
            let (new, path) = (beside.join(pin_name(name)), pins.maps().join(pin_name(name)));
            pin(map, &new)?;
            fs::rename(&new, &path).with_context(|| format!("cannot rename {}", new.display()))?;
        }
        self.grown.clear();
        remove_directory(&beside).map(drop)
    }

    /// The directory takes its name when all maps are in it.
    fn pin_maps(&self) -> Result<()> {
        let Some(pins) = self.pins.as_ref().filter(|pins| !pins.maps().exists()) else {
            return Ok(());
        };
        let beside = pins.maps_to_be();
        remove_directory(&beside)?;
        make_directory(&beside)?;
        let lasting = object::shapes(&self.meta)?;
        for (name, map) in self.ebpf.maps().filter(|(name, _)| lasting.contains_key(*name)) {
            pin(map, &beside.join(pin_name(name)))?;
        }
        fs::rename(&beside, pins.maps()).with_context(|| format!("cannot rename {}", beside.display()))
    }

    /// Puts the program in the place of the one before.
    fn pin_program(&mut self) -> Result<()> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        let (beside, path) = (pins.program_to_be(), pins.program());
        if beside.exists() {
            fs::remove_file(&beside).with_context(|| format!("cannot remove {}", beside.display()))?;
        }
        object::program(&mut self.ebpf, PROGRAM)?
            .pin(&beside)
            .with_context(|| format!("cannot pin {}", beside.display()))?;
        fs::rename(&beside, &path).with_context(|| format!("cannot rename {}", beside.display()))
    }

    /// Takes the program off all interfaces and removes what is pinned.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach(self) -> Result<Removed> {
        if let Some(pins) = &self.pins {
            return remove_all(pins);
        }
        let mut removed = Vec::with_capacity(self.links.len());
        for link in self.links {
            removed.push(format!("the program on {}", remove::name_of(link.interface())));
            link.detach()?;
        }
        Ok(Removed {
            removed,
            left: Vec::new(),
        })
    }
}

fn pin(map: &Map, path: &Path) -> Result<()> {
    map.pin(path)
        .with_context(|| format!("cannot pin {}", path.display()))
}

/// The network namespace of the calling thread.
fn namespace() -> Result<u64> {
    let namespace =
        fs::metadata("/proc/thread-self/ns/net").context("cannot tell the network namespace: mount /proc")?;
    Ok(namespace.ino())
}
