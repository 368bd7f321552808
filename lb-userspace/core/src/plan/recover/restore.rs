//! Making tables and flows again from a snapshot.
//!
//! Invariant: after [`Layout::restore`] and a plan, every flow whose backend still serves goes where it went. Under another
//! hash seed every flow has another slot, so the past means nothing: the tables come back without previous owners, and
//! flows do not come back.

use std::{collections::HashMap, sync::Arc, time::Instant};

use lb_common::abi::{FlowKey, FlowValue, SLOTS_PER_LINE, ServiceEntry, ServiceFlags, Slot};

use super::{
    recovered_pool::{self, Cells, MatchKey, RecoveredLocation},
    snapshot::{CellSnapshot, LayoutSnapshot, PoolSnapshot, RestoreError, slots},
};
use crate::desired::{BackendId, Prefix, Service};
use crate::plan::{
    layout::{
        CapacityError, Layout, Plan, placed_pool::PlacedPool, pool_writes::PoolWrites, records::FoundCell,
    },
    pools::{pool::PoolOrigin, slots::SlotTable},
    tables::{capacity::Capacity, target::TargetCell},
};

impl Layout {
    /// The tables of `snapshot`, with that capacity and for flows hashed under `seed`, and the writes that make them from
    /// empty ones. No key leads there yet: the first plan adds keys, and brings what has changed since.
    ///
    /// Windows begin anew, since flows may have been silent because they could not be heard.
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
        let mut writes = PoolWrites::default();
        for pool in &snapshot.pools {
            let remembered = pool.read(seed == snapshot.seed, now)?;
            let placed = place(&mut layout, pool, remembered)?;
            writes.fill(&placed);
            if layout.placed_pools.insert(placed.into()).is_some() {
                return Err(pool.wrong("it is there twice"));
            }
        }
        layout.is_recovered = true;
        layout.sweep_is_due = true;
        let mut all = writes.targets;
        let keys: Vec<_> = layout.placed_pools.keys().cloned().collect();
        all.extend(layout.records.change(&keys, &layout.placed_pools, &empty));
        all.extend(writes.previous);
        all.extend(writes.slots);
        Ok(Plan {
            layout,
            writes: all,
            given_up: Vec::new(),
        })
    }
}

/// Finds cells for a remembered pool.
fn place(
    layout: &mut Layout,
    pool: &PoolSnapshot,
    remembered: Remembered,
) -> Result<PlacedPool, CapacityError> {
    let Remembered { cells, slots } = remembered;
    let name = || pool.service.clone();
    let cell_count = cells.cells.len() as u32;
    let slot_count = slots.len() as u32;
    let space = &mut layout.space;
    let location = RecoveredLocation {
        targets: space
            .take_targets(cell_count)
            .ok_or_else(|| CapacityError::TargetRun(cell_count, name()))?,
        slot_lines: space
            .take_slot_lines(slot_count)
            .ok_or_else(|| CapacityError::SlotRun(slot_count, name()))?,
        number: space.take_number().ok_or(CapacityError::Numbers)?,
    };
    Ok(PlacedPool {
        history: pool.history.clone().map(Arc::new),
        ..recovered_pool::placed_pool(pool.key(), pool.match_key(), location, cells, slots)
    })
}

impl LayoutSnapshot {
    /// Flows that the dataplane knew when the snapshot was made, as they are to be in `layout`. `then` was the flow clock at
    /// that time, and `now` is the flow clock now: each flow has been silent for as long as it was then. `layout` may come
    /// ([`Layout::restore`]) from a later snapshot. Flows whose backend or VIP is gone are left out.
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
                let placed = layout.placed_pools.get(&pool.key())?;
                Some((u32::from(pool.number), Names::new(pool, placed)))
            })
            .collect();
        flows.into_iter().filter_map(move |(key, value)| {
            let names = names.get(&value.service())?;
            // No window and no idle time asks for an older past.
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

/// What the numbers have become by which flows name a pool, its backends and its VIPs.
struct Names {
    number: u16,
    /// The present cell of each backend, by the cell that it had.
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

/// What a snapshot says of a pool.
struct Remembered {
    cells: Cells,
    slots: SlotTable,
}

impl PoolSnapshot {
    /// What led packets to the pool.
    fn match_key(&self) -> MatchKey {
        MatchKey {
            vips: self.vips.clone(),
            protocol: self.protocol,
            port: self.port,
            flags: ServiceFlags::from_bits_retain(self.flags),
            origin: PoolOrigin::Recovered,
        }
    }

    /// The cells and slots of the pool. `same_slots` says whether flows have the slots that they had.
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
                CellSnapshot::Free => FoundCell::Free,
                CellSnapshot::Gone => FoundCell::Gone,
                CellSnapshot::Renamed(id) => of(id, 1),
                CellSnapshot::Of(id) => of(id, 2),
            }
        };
        let found: Vec<FoundCell> = self.cells.iter().map(found).collect();
        let cells = Cells::new(&found, now);
        let mut current = slots(&self.slots).ok_or_else(|| self.wrong("half a slot is left"))?;
        let sizes = SLOTS_PER_LINE as usize..=Service::MAX_SLOTS as usize;
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
        let slots = recovered_pool::slot_table(Arc::from(current), Arc::from(previous), &cells, now);
        Ok(Remembered { cells, slots })
    }
}
