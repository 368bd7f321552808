//! Where everything lies in the dataplane's tables, and the way from one layout to the next.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Instant,
};

use lb_common::abi::{
    Control, KEYS_PER_LINE_V4, KEYS_PER_LINE_V6, Key4, Key6, SLOTS_PER_LINE, Slot, TableIndex,
};

use super::{
    capacity::{Capacity, CapacityError},
    extents::Extents,
    keys::{Entries, Keys},
    placed::{COOL_DOWN, Cell, Placed, PoolView, Writes},
    pool::{Facts, Pool, PoolKey, pools_after},
    service_table,
    write::Write,
};
use crate::model::{BackendId, ServiceName, Services};

/// What a plan leads to, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The layout once the writes are done.
    pub layout: Layout,
    /// The writes, in order.
    pub writes: Vec<Write>,
}

/// Whom a target cell belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Whose {
    /// The service.
    pub service: ServiceName,
    /// Its backend.
    pub backend: BackendId,
}

/// What was given up and may be used again later.
#[derive(Clone, Debug, PartialEq)]
struct Retired {
    at: Instant,
    targets: Range<u32>,
    slot_lines: Range<u32>,
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Layout {
    capacity: Capacity,
    placed: BTreeMap<PoolKey, Arc<Placed>>,
    targets: Extents,
    slot_lines: Extents,
    retired: Vec<Retired>,
    next_id: u32,
    keys4: Entries<Key4>,
    keys6: Entries<Key6>,
    pub(super) control: Control,
    seed: u64,
    switched: Option<Instant>,
}

impl Layout {
    /// Empty tables with that seed of the flow hash.
    pub fn new(capacity: Capacity, seed: u64) -> Self {
        Self {
            capacity,
            placed: BTreeMap::new(),
            targets: Extents::new(capacity.target_cells()),
            slot_lines: Extents::new(capacity.slot_lines()),
            retired: Vec::new(),
            next_id: 0,
            keys4: Vec::new(),
            keys6: Vec::new(),
            control: Control::default(),
            seed,
            switched: None,
        }
    }

    /// Seed of the flow hash.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Target cells and slots in use.
    pub fn used(&self) -> (u32, u32) {
        let targets = self.placed.values().map(|p| p.pool.members.len() as u32).sum();
        (targets, self.placed.values().map(|p| p.slots.len() as u32).sum())
    }

    /// What [`pools`] says, but slot tables are taken from here where they stay as they are: working them out is most
    /// of the work.
    ///
    /// [`pools`]: super::pools
    pub fn pools(&self, services: &Services, facts: &impl Facts) -> Vec<Pool> {
        pools_after(services, facts, |key| {
            self.placed.get(key).map(|placed| &placed.pool)
        })
    }

    /// Where a pool lies.
    pub fn pool(&self, key: &PoolKey) -> Option<PoolView<'_>> {
        self.placed.get(key).map(|placed| PoolView(placed))
    }

    /// The name of the service with that number.
    pub fn service(&self, id: u32) -> Option<&ServiceName> {
        self.placed
            .values()
            .find(|placed| placed.id == id)
            .map(|placed| &placed.pool.key.service)
    }

    /// Whom every target cell in use belongs to.
    pub fn owners(&self) -> impl Iterator<Item = (u32, Whose)> {
        self.placed.values().flat_map(|placed| {
            placed.owned().map(|(local, id, _)| {
                let whose = Whose {
                    service: placed.pool.key.service.clone(),
                    backend: id,
                };
                (placed.targets.start + local, whose)
            })
        })
    }

    /// Whom the target cell of that index belongs to.
    pub fn owner(&self, index: u32) -> Option<Whose> {
        self.owners()
            .find(|(cell, _)| *cell == index)
            .map(|(_, whose)| whose)
    }

    /// Whether a cell that belongs to somebody here does not in `next`.
    pub fn gives_up_cells(&self, next: &Self) -> bool {
        let keeps = |old: &Arc<Placed>| {
            let new = next.placed.get(&old.pool.key);
            new.is_some_and(|new| Arc::ptr_eq(old, new) || old.keeps_its_cells_in(new))
        };
        !self.placed.values().all(keeps)
    }

    /// Makes everything that was given up usable at once. Only after [`Write::Wait`] has been carried out.
    pub fn release_all(&mut self) {
        self.release(|_| true);
        for placed in self.placed.values_mut() {
            Arc::make_mut(placed).release(|_| true);
        }
    }

    /// Whether something given up waits to be usable again.
    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty()
            || self
                .placed
                .values()
                .any(|p| p.cells.iter().any(|c| matches!(c, Cell::Cooling(_))))
    }

    /// The way from this layout to one that means `pools`, published as `generation`.
    ///
    /// # Errors
    /// When the pools do not fit; nothing changes then.
    pub fn plan(&self, pools: Vec<Pool>, generation: u64, now: Instant) -> Result<Plan, CapacityError> {
        self.check_capacity(&pools)?;
        let mut next = self.clone();
        let cold = |at: Instant| now.saturating_duration_since(at) >= COOL_DOWN;
        next.release(cold);
        let mut writes = Writes::default();
        let mut old = std::mem::take(&mut next.placed);
        let mut places = Vec::with_capacity(pools.len());
        // Pools that go are given up first, and pools that stay are changed before new ones look for room.
        for pool in pools {
            let present = old.remove(&pool.key);
            places.push((pool, present));
        }
        for gone in old.into_values() {
            next.retire(&gone, now);
        }
        places.sort_by_key(|(_, present)| present.is_none());
        for (pool, present) in places {
            let placed = match present {
                Some(placed) if placed.pool == pool => placed,
                Some(placed) => Arc::new(next.change(&placed, pool, now, &mut writes)?),
                None => Arc::new(next.place(pool, None, &mut writes)?),
            };
            next.placed.insert(placed.pool.key.clone(), placed);
        }
        let writes = next.publish(writes, generation, now)?;
        Ok(Plan { layout: next, writes })
    }

    fn check_capacity(&self, pools: &[Pool]) -> Result<(), CapacityError> {
        let Capacity {
            services, targets, ..
        } = self.capacity;
        let wanted: usize = pools.iter().map(|pool| pool.members.len()).sum();
        if wanted > targets as usize {
            return Err(CapacityError::Targets {
                wanted,
                limit: targets,
            });
        }
        let names: HashSet<&ServiceName> = pools.iter().map(|pool| &pool.key.service).collect();
        let wanted = names.len();
        if wanted > services as usize {
            return Err(CapacityError::Services {
                wanted,
                limit: services,
            });
        }
        Ok(())
    }

    fn release(&mut self, cold: impl Fn(Instant) -> bool) {
        let (free, keep) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition::<Vec<_>, _>(|r| cold(r.at));
        self.retired = keep;
        for Retired {
            targets, slot_lines, ..
        } in free
        {
            if !targets.is_empty() {
                self.targets.give(targets);
            }
            self.slot_lines.give(slot_lines);
        }
    }

    fn retire(&mut self, placed: &Placed, at: Instant) {
        let (targets, slot_lines) = (placed.targets.clone(), placed.slot_lines.clone());
        self.retired.push(Retired {
            at,
            targets,
            slot_lines,
        });
    }

    /// A present pool takes a new meaning: in place if its cells allow, or else elsewhere.
    fn change(
        &mut self,
        placed: &Placed,
        pool: Pool,
        now: Instant,
        writes: &mut Writes,
    ) -> Result<Placed, CapacityError> {
        if pool.slots as usize == placed.slots.len()
            && let Some(changed) = placed.in_place(&pool, now, writes)
        {
            return Ok(changed);
        }
        self.retire(placed, now);
        self.place(pool, Some(placed.id), writes)
    }

    /// Finds new cells for a pool and fills them.
    fn place(&mut self, pool: Pool, id: Option<u32>, writes: &mut Writes) -> Result<Placed, CapacityError> {
        let members = pool.members.len() as u32;
        let name = || pool.key.service.clone();
        let take = |cells: &mut Extents, n| if n == 0 { Some(0..0) } else { cells.take(n) };
        // A quarter of room to grow in, if there is any, and as far as slots can name it.
        let roomy = (members + members / 4).min(u32::from(Slot::NONE.0));
        let targets = take(&mut self.targets, roomy)
            .or_else(|| take(&mut self.targets, members))
            .ok_or_else(|| CapacityError::TargetRun(members, name()))?;
        let slot_lines = self
            .slot_lines
            .take(pool.slots / SLOTS_PER_LINE)
            .ok_or_else(|| CapacityError::SlotRun(pool.slots, name()))?;
        let mut cells = vec![Cell::Free; targets.len()];
        for (cell, member) in cells.iter_mut().zip(&pool.members) {
            *cell = Cell::Owned(member.id, member.target);
        }
        let id = id.unwrap_or(self.next_id);
        self.next_id = self.next_id.max(id + 1);
        let mut placed = Placed {
            pool,
            id,
            targets,
            cells,
            slot_lines,
            slots: Arc::from([]),
        };
        for (local, _, target) in placed.owned() {
            writes.targets.push(Write::Target {
                index: placed.targets.start + local,
                target,
            });
        }
        placed.slots = placed.wanted_slots();
        writes.slots.push(Write::Slots {
            line: placed.slot_lines.start,
            slots: Arc::clone(&placed.slots),
        });
        Ok(placed)
    }

    /// The half of a family's service table that no packet reads.
    fn other_half(&self, v6: bool) -> TableIndex {
        let used = self.control.index(v6, self.capacity.service_bits());
        TableIndex {
            half: 1 - used.half,
            ..used
        }
    }

    /// Adds what makes the new tables visible.
    fn publish(
        &mut self,
        writes: Writes,
        generation: u64,
        now: Instant,
    ) -> Result<Vec<Write>, CapacityError> {
        let Writes { targets, slots } = writes;
        let mut all = targets;
        all.extend(slots);
        let Keys {
            v4: keys4,
            v6: keys6,
            features,
            ..
        } = Keys::of(self.placed.values().map(Arc::as_ref));
        let mut halves = Vec::new();
        if keys4 != self.keys4 {
            let index = self.other_half(false);
            let table = service_table::build::<Key4, KEYS_PER_LINE_V4, 3>(&keys4, index)?;
            self.control.set_index(false, table.index);
            halves.push(Write::Services4 {
                line: table.index.base(),
                lines: table.lines,
            });
            self.keys4 = keys4;
        }
        if keys6 != self.keys6 {
            let index = self.other_half(true);
            let table = service_table::build::<Key6, KEYS_PER_LINE_V6, 5>(&keys6, index)?;
            self.control.set_index(true, table.index);
            halves.push(Write::Services6 {
                line: table.index.base(),
                lines: table.lines,
            });
            self.keys6 = keys6;
        }
        if !halves.is_empty() {
            // Packets may still read the half that was in use before the last switch.
            if self
                .switched
                .is_some_and(|at| now.saturating_duration_since(at) < COOL_DOWN)
            {
                all.push(Write::Wait);
            }
            self.switched = Some(now);
        }
        all.extend(halves);
        self.control.features = features;
        self.control.generation = generation;
        all.push(Write::Publish(self.control));
        Ok(all)
    }
}
