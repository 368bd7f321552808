//! The way from one layout to the next: which pools stay in their cells, and where the others go.
//!
//! Invariant: cells are filled before slots or keys lead there, and what is given up rests before it is used again.

use std::{sync::Arc, time::Instant};

use lb_common::abi::Slot;

use super::{
    Layout,
    capacity::CapacityError,
    history,
    keys::Keys,
    placed_pool::{COOL_DOWN, Cell, PlacedPool},
    pool_writes::PoolWrites,
};
use crate::plan::{
    pools::{pool::Pool, slots::SlotTable},
    tables::{target::TargetCell, write::Write},
};

/// A layout, and the writes that lead to it.
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
    /// When the pools do not fit. Nothing changes then.
    pub fn plan(&self, pools: Vec<Pool>, generation: u64, now: Instant) -> Result<Plan, CapacityError> {
        self.capacity.check(&pools)?;
        let mut next = self.clone();
        if std::mem::take(&mut next.is_recovered) {
            next.rest_anew(now);
        }
        next.release(|at| now.saturating_duration_since(at) >= COOL_DOWN);
        let mut writes = PoolWrites::default();
        writes.targets.extend(next.withdraw_server_ids());
        next.change_pools(pools, generation, now, &mut writes)?;
        let placed_pools = || next.placed_pools.values().map(Arc::as_ref);
        writes
            .targets
            .extend(next.records.change(&next.placed_pools, self));
        writes.targets.extend(next.quic_sets.change(placed_pools(), now)?);
        let options = next
            .options
            .change(placed_pools(), |number| next.quic_sets.option(number))?;
        writes.targets.extend(options.first);
        let keys = Keys::of(placed_pools());
        let bits = self.capacity.service_bits();
        let mut writes = writes.into_order();
        writes.extend(next.published.change(keys, bits, generation, now)?);
        writes.extend(options.last);
        Ok(Plan { layout: next, writes })
    }

    /// Brings every pool to what it is to mean.
    fn change_pools(
        &mut self,
        pools: Vec<Pool>,
        generation: u64,
        now: Instant,
        writes: &mut PoolWrites,
    ) -> Result<(), CapacityError> {
        let mut old = std::mem::take(&mut self.placed_pools);
        let mut changes = Vec::with_capacity(pools.len());
        // Pools that go are given up first, and pools that stay are changed before new ones look for room.
        for pool in pools {
            let present = old.remove(&pool.key);
            changes.push((pool, present));
        }
        for gone in old.into_values() {
            self.space.retire_pool(&gone, now);
            self.space.retire_number(gone.number, now);
        }
        changes.sort_by_key(|(_, present)| present.is_none());
        for (pool, present) in changes {
            let placed = match present {
                Some(placed) if placed.pool == pool => placed,
                Some(placed) => {
                    let mut changed = self.change(&placed, pool, now, writes)?;
                    changed.history = history::after(Some(&placed), &changed, generation);
                    self.sweep_is_due |= placed.flows_change_in(&changed);
                    Arc::new(changed)
                }
                None => {
                    let mut new = self.place(pool, None, now, writes)?;
                    new.history = history::after(None, &new, generation);
                    Arc::new(new)
                }
            };
            self.placed_pools.insert(placed.pool.key.clone(), placed);
        }
        Ok(())
    }

    /// Begins the rest of all that waits to be usable again anew. After tables were read back, the first plan gives up
    /// what nothing is to lead to any more, not the reading.
    fn rest_anew(&mut self, now: Instant) {
        self.space.rest_anew(now);
        for placed in self.placed_pools.values_mut() {
            for cell in &mut Arc::make_mut(placed).cells {
                if matches!(cell, Cell::Cooling(_)) {
                    *cell = Cell::Cooling(now);
                }
            }
        }
    }

    /// The writes that take server IDs out of use which may name another service's targets soon. They come before all
    /// others, so that targets can be filled.
    fn withdraw_server_ids(&mut self) -> Vec<Write> {
        let withdrawn = std::mem::take(&mut self.options_without_server_ids);
        let mut writes: Vec<_> = withdrawn
            .into_iter()
            .map(|(number, options)| self.options.set(number, options))
            .collect();
        if !writes.is_empty() {
            writes.push(Write::Wait);
        }
        writes
    }

    /// Brings a present pool to a new meaning: in its cells if they allow that, or else in others.
    fn change(
        &mut self,
        placed: &PlacedPool,
        pool: Pool,
        now: Instant,
        writes: &mut PoolWrites,
    ) -> Result<PlacedPool, CapacityError> {
        if pool.slots as usize == placed.slots.len()
            && let Some(changed) = placed.in_place(&pool, now, writes)
        {
            return Ok(changed);
        }
        self.space.retire_pool(placed, now);
        self.place(pool, Some(placed), now, writes)
    }

    /// Finds new cells for a pool and fills them. If the pool is `present`, it keeps its number and the indexes of its
    /// backends, by which flows name them.
    fn place(
        &mut self,
        pool: Pool,
        present: Option<&PlacedPool>,
        now: Instant,
        writes: &mut PoolWrites,
    ) -> Result<PlacedPool, CapacityError> {
        let name = || pool.key.service.clone();
        let mut cells = cells_of(&pool, present, now);
        let least = cells.len() as u32;
        if least > u32::from(Slot::NONE.0) {
            return Err(CapacityError::Indexes(name()));
        }
        // A quarter of room to grow in, if there is any, and as far as slots can name it.
        let roomy = (least + pool.members.len() as u32 / 4).min(u32::from(Slot::NONE.0));
        let space = &mut self.space;
        let targets = space
            .take_targets(roomy)
            .or_else(|| space.take_targets(least))
            .ok_or_else(|| CapacityError::TargetRun(least, name()))?;
        cells.resize(targets.len(), Cell::Free);
        let slot_lines = space
            .take_slot_lines(pool.slots)
            .ok_or_else(|| CapacityError::SlotRun(pool.slots, name()))?;
        let number = match present {
            Some(placed) => placed.number,
            None => space.take_number().ok_or(CapacityError::Numbers)?,
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
}

/// The cells of a pool that gets new ones: the present cells as they are, then the cells of new members.
fn cells_of(pool: &Pool, present: Option<&PlacedPool>, now: Instant) -> Vec<Cell> {
    let mut cells = present.map_or_else(Vec::new, |present| present.cells.clone());
    let at = present.map(PlacedPool::cell_of).unwrap_or_default();
    let mut stays = vec![false; cells.len()];
    let mut new = Vec::new();
    for member in &pool.members {
        match at.get(&member.id).map(|local| *local as usize) {
            Some(local) => {
                stays[local] = true;
                // Answers on the road still use the last known way of a backend that is unresolved.
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
