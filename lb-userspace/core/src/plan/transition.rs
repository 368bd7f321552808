//! The way from one layout to the next.
//!
//! Invariant: a layout is changed as a copy of itself; what does not fit leaves nothing behind.

use std::{collections::HashSet, sync::Arc, time::Instant};

use lb_common::abi::{KEYS_PER_LINE_V4, KEYS_PER_LINE_V6, Key4, Key6, SLOTS_PER_LINE, Slot, TableIndex};

use super::{
    capacity::{Capacity, CapacityError},
    extents::Extents,
    history,
    keys::Keys,
    layout::{Layout, RetiredNumber},
    placed_pool::{COOL_DOWN, Cell, PlacedPool, Writes},
    pool::Pool,
    service_table,
    slots::SlotTable,
    target::TargetCell,
    write::Write,
};
use crate::desired::ServiceName;

/// What a plan leads to, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The layout once the writes are done.
    pub layout: Layout,
    /// The writes, in order.
    pub writes: Vec<Write>,
}
impl Layout {
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
                    let mut changed = next.change(&placed, pool, now, &mut writes)?;
                    changed.history = history::after(Some(&placed), &changed, generation);
                    next.sweep_is_due |= placed.flows_change_in(&changed);
                    Arc::new(changed)
                }
                None => {
                    let mut new = next.place(pool, None, now, &mut writes)?;
                    new.history = history::after(None, &new, generation);
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

    /// A present pool takes a new meaning: in place if its cells allow, or else elsewhere.
    fn change(
        &mut self,
        placed: &PlacedPool,
        pool: Pool,
        now: Instant,
        writes: &mut Writes,
    ) -> Result<PlacedPool, CapacityError> {
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
        present: Option<&PlacedPool>,
        now: Instant,
        writes: &mut Writes,
    ) -> Result<PlacedPool, CapacityError> {
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
        let mut placed = PlacedPool {
            slots: SlotTable::new(Arc::from([])),
            renamed: present.map_or_else(Vec::new, |present| present.renamed.clone()),
            pool,
            number,
            targets,
            cells,
            slot_lines,
            history: None,
            parked: present.map_or_else(|| Arc::from([]), |present| Arc::clone(&present.parked)),
        };
        placed.slots = match present {
            Some(present) => present.slots_after(&placed, now),
            None => SlotTable::new(placed.wanted_owners().into()),
        };
        writes.fill(&placed);
        placed.release_flows(writes);
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
            flows,
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
        all.extend(flows);
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
fn cells_of(pool: &Pool, present: Option<&PlacedPool>, now: Instant) -> Vec<Cell> {
    let mut cells = present.map_or_else(Vec::new, |present| present.cells.clone());
    let at = present.map(PlacedPool::cell_of).unwrap_or_default();
    let mut stays = vec![false; cells.len()];
    let mut new = Vec::new();
    for member in &pool.members {
        match at.get(&member.id).map(|local| *local as usize) {
            Some(local) => {
                stays[local] = true;
                // The last known way of a backend that is unresolved is kept for answers still on the road.
                if member.entry != TargetCell::default() {
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
