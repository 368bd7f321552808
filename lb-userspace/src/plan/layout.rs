//! Where everything lies in the dataplane's tables, and the way from one layout to the next.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Instant,
};

use lb_common::abi::{
    Control, KEYS_PER_LINE_V4, KEYS_PER_LINE_V6, Key4, Key6, SLOTS_PER_LINE, ServiceOptions, Slot, TableIndex,
};

use super::{
    capacity::{Capacity, CapacityError},
    extents::Extents,
    history,
    keys::{Entries, Keys},
    options::Options,
    placed::{COOL_DOWN, Cell, Placed, PoolView, Writes},
    pool::{Facts, Pool, PoolKey, pools_after},
    record::Records,
    routing::Routing,
    service_table,
    slots::SlotTable,
    target::TargetEntry,
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

/// Cells that were given up and may be used again later.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Retired {
    pub(super) at: Instant,
    pub(super) targets: Range<u32>,
    pub(super) slot_lines: Range<u32>,
}

/// The number of a pool that is gone. Flows may still name it: it rests until they have been swept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RetiredNumber {
    pub(super) at: Instant,
    pub(super) number: u32,
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Layout {
    capacity: Capacity,
    pub(super) placed: BTreeMap<PoolKey, Arc<Placed>>,
    pub(super) targets: Extents,
    pub(super) slot_lines: Extents,
    pub(super) numbers: Extents,
    pub(super) retired: Vec<Retired>,
    pub(super) retired_numbers: Vec<RetiredNumber>,
    /// Whether flows are cut or named otherwise since the last sweep.
    pub(super) sweep_is_due: bool,
    pub(super) keys4: Entries<Key4>,
    pub(super) keys6: Entries<Key6>,
    pub(super) records: Records,
    pub(super) options: Options,
    pub(super) routing: Routing,
    /// Options of services whose server IDs may name targets that are somebody else's soon, without these: so they are
    /// where an agent died while it moved targets.
    pub(super) astray: Vec<(u32, ServiceOptions)>,
    /// Whether packets may be led to what waits here to be usable again: so it is after tables were read back, until
    /// the next plan.
    pub(super) recalled: bool,
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
            numbers: Extents::new(capacity.numbers()),
            retired: Vec::new(),
            retired_numbers: Vec::new(),
            sweep_is_due: false,
            keys4: Vec::new(),
            keys6: Vec::new(),
            records: Records::default(),
            options: Options::default(),
            routing: Routing::new(capacity.quic_sets(), capacity.server_lines()),
            astray: Vec::new(),
            recalled: false,
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

    /// Slots whose owner changed of late.
    pub fn unsafe_slots(&self) -> u64 {
        self.placed.values().map(|p| p.slots.unsafes.len() as u64).sum()
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
    pub fn service(&self, number: u32) -> Option<&ServiceName> {
        self.placed
            .values()
            .find(|placed| placed.number == number)
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

    /// Makes all runs of cells that were given up usable at once. Only after [`Write::Wait`] has been carried out.
    pub fn release_all(&mut self) {
        if !self.recalled {
            self.release(|_| true);
        }
    }

    /// Whether something given up waits to be usable again.
    pub fn has_retired(&self) -> bool {
        let cooling = |placed: &Arc<Placed>| placed.cells.iter().any(|c| matches!(c, Cell::Cooling(_)));
        self.routing.has_retired()
            || !self.retired.is_empty()
            || !self.retired_numbers.is_empty()
            || self.placed.values().any(cooling)
    }

    /// The way from this layout to one that means `pools`, published as `generation`.
    ///
    /// # Errors
    /// When the pools do not fit; nothing changes then.
    pub fn plan(&self, pools: Vec<Pool>, generation: u64, now: Instant) -> Result<Plan, CapacityError> {
        self.check_capacity(&pools)?;
        let mut next = self.clone();
        if next.recalled {
            next.begin(now);
        }
        let cold = |at: Instant| now.saturating_duration_since(at) >= COOL_DOWN;
        next.release(cold);
        let mut writes = Writes::default();
        writes.targets.extend(next.call_back());
        let mut old = std::mem::take(&mut next.placed);
        let mut places = Vec::with_capacity(pools.len());
        // Pools that go are given up first, and pools that stay are changed before new ones look for room.
        for pool in pools {
            let present = old.remove(&pool.key);
            places.push((pool, present));
        }
        for gone in old.into_values() {
            next.retire(&gone, now);
            next.retired_numbers.push(RetiredNumber {
                at: now,
                number: gone.number,
            });
        }
        places.sort_by_key(|(_, present)| present.is_none());
        for (pool, present) in places {
            let placed = match present {
                Some(placed) if placed.pool == pool => placed,
                Some(placed) => {
                    let history = history::after(Some(&placed), &pool, generation);
                    let mut changed = next.change(&placed, pool, now, &mut writes)?;
                    changed.history = history;
                    next.sweep_is_due |= placed.flows_change_in(&changed);
                    Arc::new(changed)
                }
                None => {
                    let history = history::after(None, &pool, generation);
                    let mut new = next.place(pool, None, now, &mut writes)?;
                    new.history = history;
                    Arc::new(new)
                }
            };
            next.placed.insert(placed.pool.key.clone(), placed);
        }
        writes.targets.extend(next.note(self));
        let placed = || next.placed.values().map(Arc::as_ref);
        writes.targets.extend(next.routing.change(placed(), now)?);
        let options = next
            .options
            .change(placed(), |number| next.routing.leads(number))?;
        writes.targets.extend(options.first);
        let mut writes = next.publish(writes, generation, now)?;
        writes.extend(options.last);
        Ok(Plan { layout: next, writes })
    }

    /// Before anything else, so that targets can be filled.
    fn call_back(&mut self) -> Vec<Write> {
        let astray = std::mem::take(&mut self.astray);
        let mut writes: Vec<_> = astray
            .into_iter()
            .map(|(number, options)| self.options.set(number, options))
            .collect();
        if !writes.is_empty() {
            writes.push(Write::Wait);
        }
        writes
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
        self.routing.release(&cold);
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
        self.place(pool, Some(placed), now, writes)
    }

    /// Finds new cells for a pool and fills them. What is `present` of it keeps its number and its backends' indexes,
    /// by which flows name them.
    fn place(
        &mut self,
        pool: Pool,
        present: Option<&Placed>,
        now: Instant,
        writes: &mut Writes,
    ) -> Result<Placed, CapacityError> {
        let name = || pool.key.service.clone();
        let mut cells = cells_of(&pool, present, now);
        let least = cells.len() as u32;
        if least > u32::from(Slot::NONE.0) {
            return Err(CapacityError::Indexes(name()));
        }
        let take = |extents: &mut Extents, n| if n == 0 { Some(0..0) } else { extents.take(n) };
        // A quarter of room to grow in, if there is any, and as far as slots can name it.
        let roomy = (least + pool.members.len() as u32 / 4).min(u32::from(Slot::NONE.0));
        let targets = take(&mut self.targets, roomy)
            .or_else(|| take(&mut self.targets, least))
            .ok_or_else(|| CapacityError::TargetRun(least, name()))?;
        cells.resize(targets.len(), Cell::Free);
        let slot_lines = self
            .slot_lines
            .take(pool.slots / SLOTS_PER_LINE)
            .ok_or_else(|| CapacityError::SlotRun(pool.slots, name()))?;
        let number = match present {
            Some(placed) => placed.number,
            None => self.numbers.take(1).ok_or(CapacityError::Numbers)?.start,
        };
        let mut placed = Placed {
            slots: SlotTable::new(Arc::from([])),
            renamed: present.map_or_else(Vec::new, |present| present.renamed.clone()),
            pool,
            number,
            targets,
            cells,
            slot_lines,
            history: None,
        };
        placed.slots = match present {
            Some(present) => present.slots_after(&placed, now),
            None => SlotTable::new(placed.wanted_owners().into()),
        };
        writes.fill(&placed);
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
        let Writes {
            targets,
            previous,
            slots,
        } = writes;
        let mut all = targets;
        let flags_follow = !previous.is_empty() && !slots.is_empty();
        all.extend(previous);
        if flags_follow && cfg!(not(target_arch = "x86_64")) {
            // Where loads may pass one another, a packet could find the flag and an older previous owner. It reads
            // without a barrier, so the writer waits until nobody is between the two.
            all.push(Write::Wait);
        }
        all.extend(slots);
        let Keys {
            v4: keys4,
            v6: keys6,
            features,
            lengths,
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
        self.control.lengths = lengths;
        self.control.generation = generation;
        all.push(Write::Publish(self.control));
        Ok(all)
    }
}

/// The cells of a pool that is placed anew: as they are present, then those of new members.
fn cells_of(pool: &Pool, present: Option<&Placed>, now: Instant) -> Vec<Cell> {
    let mut cells = present.map_or_else(Vec::new, |present| present.cells.clone());
    let at = present.map(Placed::cell_of).unwrap_or_default();
    let mut stays = vec![false; cells.len()];
    let mut new = Vec::new();
    for member in &pool.members {
        match at.get(&member.id).map(|local| *local as usize) {
            Some(local) => {
                stays[local] = true;
                // The last known way of a backend that is unresolved is kept for answers still on the road.
                if member.entry != TargetEntry::default() {
                    cells[local] = Cell::Owned(member.id, member.entry);
                }
            }
            None => new.push(Cell::Owned(member.id, member.entry)),
        }
    }
    for (cell, _) in cells.iter_mut().zip(stays).filter(|(_, stays)| !stays) {
        if matches!(cell, Cell::Owned(..)) {
            *cell = Cell::Cooling(now);
        }
    }
    let mut new = new.into_iter();
    for cell in cells.iter_mut().filter(|cell| **cell == Cell::Free) {
        match new.next() {
            Some(owned) => *cell = owned,
            None => break,
        }
    }
    cells.extend(new);
    let used = cells
        .iter()
        .rposition(|cell| *cell != Cell::Free)
        .map_or(0, |last| last + 1);
    cells.truncate(used);
    cells
}
