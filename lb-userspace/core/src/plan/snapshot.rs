//! The tables by name, to make the same again when the kernel has lost them.
//!
//! What is kept of a pool is what flows depend on: who owns its slots and who owned them before, and the numbers that
//! entries of the flow table know its backends by. Invariant: after [`Layout::restore`] and a plan, every flow whose
//! backend still serves goes where it went.
//!
//! Under another hash seed every flow has another slot, so nothing of the past means anything: the tables come back
//! without previous owners, and the flows do not.

use std::{collections::HashMap, sync::Arc, time::Instant};

use lb_common::abi::{FlowKey, FlowValue, SLOTS_PER_LINE, ServiceEntry, ServiceFlags, Slot};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    capacity::{Capacity, CapacityError},
    layout::Layout,
    placed_pool::{Cell, PlacedPool, Writes},
    pool::{PoolKey, PoolOrigin},
    recall::{self, Cells, FoundCell, MatchKey, RecoveredLocation},
    slots::SlotTable,
    target::TargetCell,
    transition::Plan,
};
use crate::desired::{BackendId, Prefix, Protocol, ServiceName, ServicePort};
use crate::schedule::History;

/// A layout's pools by name. Kept in files: fields are added with a default, never renamed or retyped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutSnapshot {
    /// Seed of the flow hash.
    pub seed: u64,
    /// The pools.
    pub pools: Vec<PoolSnapshot>,
}

/// A pool by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSnapshot {
    /// The service.
    pub service: ServiceName,
    /// Whether this is the IPv6 part of a `nat` service.
    pub v6_part: bool,
    /// The number that flows knew it by: [`FlowValue::service`].
    pub number: u16,
    /// The VIPs, by the numbers that flows knew them by.
    pub vips: Vec<Prefix>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port that clients use.
    pub port: ServicePort,
    /// How packets are treated, in the dataplane's words.
    pub flags: u16,
    /// Its target cells, by the indexes that slots and flows know them by.
    pub cells: Vec<CellSnapshot>,
    /// Its slots as map `SLOTS` has them, two bytes each, little-endian.
    pub slots: ByteBuf,
    /// The previous owners of the unsafe ones among them, in order, two bytes each, little-endian.
    pub previous: ByteBuf,
    /// How the slots came to be, where the next ones depend on that.
    #[serde(default)]
    pub history: Option<History>,
}

/// Whose a target cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellSnapshot {
    /// Nobody's.
    Free,
    /// Nobody's any more, but flows may name it.
    Gone,
    /// That of a backend which has another one now; flows may name this.
    Renamed(BackendId),
    /// A backend's.
    Of(BackendId),
}

/// A snapshot cannot be made into tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It contradicts itself.
    #[error("what is remembered of service {0} makes no sense: {1}")]
    Content(ServiceName, &'static str),
    /// The tables are smaller than they were.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
}

impl Layout {
    /// The pools by name. Not of a layout that was read back and never planned: what that means is not known.
    pub fn snapshot(&self) -> LayoutSnapshot {
        LayoutSnapshot {
            seed: self.seed(),
            pools: self
                .placed
                .values()
                .map(|placed| PoolSnapshot::of(placed))
                .collect(),
        }
    }

    /// Tables of that capacity, for flows hashed under `seed`, as `snapshot` remembers them, and the writes that make
    /// them from empty ones. No key leads there yet: that, and what has changed since, is for the first plan.
    ///
    /// Windows begin anew, since nobody knows which flows have been silent because they could not be heard.
    ///
    /// # Errors
    /// When the snapshot contradicts itself or does not fit.
    pub fn restore(
        capacity: Capacity,
        seed: u64,
        snapshot: &LayoutSnapshot,
        now: Instant,
    ) -> Result<Plan, RestoreError> {
        let empty = Self::new(capacity, seed);
        let mut layout = empty.clone();
        let mut writes = Writes::default();
        for pool in &snapshot.pools {
            let remembered = pool.read(seed == snapshot.seed, now)?;
            let placed = layout.recall(pool, remembered)?;
            writes.fill(&placed);
            if layout
                .placed
                .insert(placed.pool.key.clone(), placed.into())
                .is_some()
            {
                return Err(pool.wrong("it is there twice"));
            }
        }
        layout.recalled = true;
        layout.sweep_is_due = true;
        let mut all = writes.targets;
        all.extend(layout.note(&empty));
        all.extend(writes.previous);
        all.extend(writes.slots);
        Ok(Plan { layout, writes: all })
    }

    fn recall(&mut self, pool: &PoolSnapshot, remembered: Remembered) -> Result<PlacedPool, CapacityError> {
        let Remembered { cells, slots } = remembered;
        let name = || pool.service.clone();
        let targets = match cells.cells.len() as u32 {
            0 => 0..0,
            n => self
                .targets
                .take(n)
                .ok_or_else(|| CapacityError::TargetRun(n, name()))?,
        };
        let n = slots.len() as u32;
        let location = RecoveredLocation {
            targets,
            slot_lines: self
                .slot_lines
                .take(n / SLOTS_PER_LINE)
                .ok_or_else(|| CapacityError::SlotRun(n, name()))?,
            number: self.numbers.take(1).ok_or(CapacityError::Numbers)?.start,
        };
        Ok(PlacedPool {
            history: pool.history.clone().map(Arc::new),
            ..recall::placed(pool.key(), pool.front(), location, cells, slots)
        })
    }
}

impl LayoutSnapshot {
    /// Flows that the dataplane knew when the snapshot was made, with the flow clock at that time, as they are to be
    /// now: under the numbers that `layout` gives them, silent for as long as they were then. `layout` may be made
    /// ([`Layout::restore`]) of a later snapshot. Flows of which nothing is there any more are left out.
    pub fn flows<'a>(
        &'a self,
        layout: &'a Layout,
        then: u32,
        now: u32,
        flows: impl IntoIterator<Item = (FlowKey, FlowValue)> + 'a,
    ) -> impl Iterator<Item = (FlowKey, FlowValue)> + 'a {
        let same_slots = self.seed == layout.seed();
        let pools = self.pools.iter().filter(move |_| same_slots);
        let names: HashMap<u32, Names> = pools
            .filter_map(|pool| {
                let placed = layout.placed.get(&pool.key())?;
                Some((u32::from(pool.number), Names::new(pool, placed)))
            })
            .collect();
        flows.into_iter().filter_map(move |(key, value)| {
            let names = names.get(&value.service())?;
            // The past that a window or an idle time can ask for; what is older is over.
            let age = value.age(then).min(FlowValue::CLOCK_MASK / 2);
            let owner = *names.owners.get(value.owner() as usize)?;
            let vip = *names.vips.get(value.vip() as usize)?;
            let id = ServiceEntry::id_of(names.number, vip?);
            Some((
                key,
                FlowValue::new(owner?, value.state()?, id, now.wrapping_sub(age)),
            ))
        })
    }
}

/// What the numbers in a pool's flows have become.
struct Names {
    number: u16,
    /// By the cell that it was, the cell that its owner has.
    owners: Vec<Option<u32>>,
    vips: Vec<Option<u8>>,
}

impl Names {
    fn new(pool: &PoolSnapshot, placed: &PlacedPool) -> Self {
        let at = placed.cell_of();
        let owner = |cell: &CellSnapshot| match cell {
            CellSnapshot::Of(id) | CellSnapshot::Renamed(id) => at.get(id).copied(),
            CellSnapshot::Free | CellSnapshot::Gone => None,
        };
        let vip = |vip: &Prefix| {
            placed
                .pool
                .vips
                .iter()
                .position(|now| now == vip)
                .map(|at| at as u8)
        };
        Self {
            number: placed.number as u16,
            owners: pool.cells.iter().map(owner).collect(),
            vips: pool.vips.iter().map(vip).collect(),
        }
    }
}

/// What a snapshot says of a pool, in the planner's words.
struct Remembered {
    cells: Cells,
    slots: SlotTable,
}

impl PoolSnapshot {
    fn of(placed: &PlacedPool) -> Self {
        let slots = &placed.slots;
        let flagged = slots
            .current
            .iter()
            .zip(&*slots.previous)
            .filter(|(slot, _)| slot.is_migrating());
        Self {
            service: placed.pool.key.service.clone(),
            v6_part: placed.pool.key.v6_part,
            number: placed.number as u16,
            vips: placed.pool.vips.clone(),
            protocol: placed.pool.service.protocol,
            port: placed.pool.service.port,
            flags: placed.pool.flags.bits(),
            cells: (0..placed.cells.len())
                .map(|local| cell_snapshot(placed, local))
                .collect(),
            slots: bytes(slots.current.iter()),
            previous: bytes(flagged.map(|(_, previous)| previous)),
            history: placed.history.as_deref().cloned(),
        }
    }

    /// Who owns each slot; `None` where half a slot is left.
    pub(super) fn owners(&self) -> Option<Vec<Option<BackendId>>> {
        let owner = |slot: Slot| match self.cells.get(slot.owner()? as usize)? {
            CellSnapshot::Of(id) | CellSnapshot::Renamed(id) => Some(*id),
            CellSnapshot::Free | CellSnapshot::Gone => None,
        };
        Some(slots(&self.slots)?.into_iter().map(owner).collect())
    }

    pub(super) fn key(&self) -> PoolKey {
        PoolKey {
            service: self.service.clone(),
            v6_part: self.v6_part,
        }
    }

    fn front(&self) -> MatchKey {
        MatchKey {
            vips: self.vips.clone(),
            protocol: self.protocol,
            port: self.port,
            flags: ServiceFlags::from_bits_retain(self.flags),
            origin: PoolOrigin::Recovered,
        }
    }

    pub(super) fn wrong(&self, what: &'static str) -> RestoreError {
        RestoreError::Content(self.service.clone(), what)
    }

    /// `same_slots`: whether flows have the slots that they had.
    fn read(&self, same_slots: bool, now: Instant) -> Result<Remembered, RestoreError> {
        if self.cells.len() > usize::from(Slot::NONE.0) {
            return Err(self.wrong("it has more cells than slots can name"));
        }
        let found = |cell: &CellSnapshot| {
            let of = |id: &BackendId, serial| FoundCell::Of {
                id: *id,
                serial,
                entry: TargetCell::default(),
            };
            match cell {
                CellSnapshot::Free => FoundCell::Nobody,
                CellSnapshot::Gone => FoundCell::Gone,
                CellSnapshot::Renamed(id) => of(id, 1),
                CellSnapshot::Of(id) => of(id, 2),
            }
        };
        let found: Vec<FoundCell> = self.cells.iter().map(found).collect();
        let cells = Cells::new(&found, now);
        let mut current = slots(&self.slots).ok_or_else(|| self.wrong("half a slot is left"))?;
        let sizes = SLOTS_PER_LINE as usize..=crate::desired::Service::MAX_SLOTS as usize;
        if !current.len().is_power_of_two() || !sizes.contains(&current.len()) {
            return Err(self.wrong("no table has that many slots"));
        }
        let mut remembered = slots(&self.previous)
            .ok_or_else(|| self.wrong("half a previous owner is left"))?
            .into_iter();
        let mut previous = vec![Slot::NONE; current.len()];
        for (slot, before) in current.iter_mut().zip(&mut previous) {
            if slot.is_migrating() {
                *before = remembered
                    .next()
                    .ok_or_else(|| self.wrong("a previous owner is missing"))?;
            }
            let owners = [slot.owner(), before.owner()];
            if owners
                .into_iter()
                .flatten()
                .any(|owner| cells.owner(owner).is_none())
            {
                return Err(self.wrong("a slot's owner is nobody"));
            }
            if !same_slots {
                (*slot, *before) = (slot.with_flag(false), Slot::NONE);
            }
        }
        let slots = recall::slot_table(Arc::from(current), Arc::from(previous), &cells, now);
        Ok(Remembered { cells, slots })
    }
}

fn cell_snapshot(placed: &PlacedPool, local: usize) -> CellSnapshot {
    let renamed = || placed.renamed.iter().find(|(from, _)| *from as usize == local);
    match &placed.cells[local] {
        Cell::Free => CellSnapshot::Free,
        Cell::Owned(id, _) => CellSnapshot::Of(*id),
        Cell::Cooling(_) => match renamed().map(|(_, to)| &placed.cells[*to as usize]) {
            Some(Cell::Owned(id, _)) => CellSnapshot::Renamed(*id),
            _ => CellSnapshot::Gone,
        },
    }
}

fn bytes<'a>(slots: impl Iterator<Item = &'a Slot>) -> ByteBuf {
    ByteBuf::from(slots.flat_map(|slot| slot.0.to_le_bytes()).collect::<Vec<u8>>())
}

/// `None` of an odd number of bytes.
fn slots(bytes: &[u8]) -> Option<Vec<Slot>> {
    let (words, rest) = bytes.as_chunks();
    rest.is_empty()
        .then(|| words.iter().map(|word| Slot(u16::from_le_bytes(*word))).collect())
}
