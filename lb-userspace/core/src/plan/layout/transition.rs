//! The way from one layout to the next: which pools stay in their cells, and where the others go.
//!
//! Invariant: cells are filled before slots or keys lead there, and what is given up rests before it is used again.

use std::{sync::Arc, time::Instant};

use lb_common::abi::Slot;

use super::{
    BackendRef, Layout,
    fit::{self, CapacityError},
    history,
    keys::{self, Keys},
    placed_pool::{COOL_DOWN, Cell, PlacedPool},
    placed_pools::PoolsDelta,
    pool_writes::PoolWrites,
};
use crate::plan::{
    pools::{
        pool::{Pool, PoolKey},
        slots::SlotTable,
    },
    tables::{target::TargetCell, write::Write},
};

/// A layout, and the writes that lead to it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The layout once the writes are done.
    pub layout: Layout,
    /// The writes, in order.
    pub writes: Vec<Write>,
    /// Cells that belong to another backend, or to nobody, once the writes are done; and the backends that had them.
    pub given_up: Vec<(u32, BackendRef)>,
}

/// The pools that a plan has changed, made or given up.
struct Changed {
    /// Their names, in order.
    keys: Vec<PoolKey>,
    /// The numbers of those that were given up.
    gone: Vec<u32>,
}

impl Layout {
    /// The way from this layout to one that means `pools` and nothing else, published as `generation`.
    ///
    /// # Errors
    /// When the pools do not fit. Nothing changes then.
    pub fn plan(&self, pools: Vec<Pool>, generation: u64, now: Instant) -> Result<Plan, CapacityError> {
        self.plan_delta(self.delta_to(pools), generation, now)
    }

    /// The way from this layout to one in which these pools mean something else, published as `generation`. It costs what
    /// changes. Only where VIPs, ports or locations change, the service tables are written anew.
    ///
    /// # Errors
    /// When the pools do not fit. Nothing changes then.
    pub fn plan_delta(
        &self,
        delta: PoolsDelta,
        generation: u64,
        now: Instant,
    ) -> Result<Plan, CapacityError> {
        fit::check(&self.capacity, &self.placed_pools, &delta)?;
        let mut next = self.clone();
        if std::mem::take(&mut next.is_recovered) {
            next.rest_anew(now);
        }
        next.release(|at| now.saturating_duration_since(at) >= COOL_DOWN);
        let mut writes = PoolWrites::default();
        writes.targets.extend(next.withdraw_server_ids());
        let changed = next.change_pools(delta, generation, now, &mut writes)?;
        let Changed { keys, gone } = &changed;
        writes
            .targets
            .extend(next.records.change(keys, &next.placed_pools, self));
        let placed = || {
            keys.iter()
                .filter_map(|key| next.placed_pools.get(key))
                .map(Arc::as_ref)
        };
        writes.targets.extend(next.quic_sets.change(placed(), gone, now)?);
        let options = next
            .options
            .change(placed(), gone, |number| next.quic_sets.option(number))?;
        writes.targets.extend(options.first);
        let given_up = self.cells_given_up(keys, &next);
        let matches_change = self.matches_change_in(&changed, &next);
        let match_keys = matches_change.then(|| Keys::of(next.placed_pools.values().map(Arc::as_ref)));
        let bits = self.capacity.service_bits();
        let mut writes = writes.into_order();
        writes.extend(next.published.change(match_keys, bits, generation, now)?);
        writes.extend(options.last);
        Ok(Plan {
            layout: next,
            writes,
            given_up,
        })
    }

    /// Whether the keys of the service tables that lead to these pools are others in `next`.
    fn matches_change_in(&self, changed: &Changed, next: &Self) -> bool {
        // Tables that were read back are led to by keys of which nobody knows what they ought to be.
        self.is_recovered
            || changed.keys.iter().any(
                |key| match (self.placed_pools.get(key), next.placed_pools.get(key)) {
                    (Some(old), Some(new)) => !Arc::ptr_eq(old, new) && !keys::are_the_same(old, new),
                    _ => true,
                },
            )
    }

    /// Brings every pool of the delta to what it is to mean.
    fn change_pools(
        &mut self,
        delta: PoolsDelta,
        generation: u64,
        now: Instant,
        writes: &mut PoolWrites,
    ) -> Result<Changed, CapacityError> {
        let PoolsDelta { changed, gone } = delta;
        let mut names = Vec::with_capacity(changed.len() + gone.len());
        // Pools that go are given up first, and pools that stay are changed before new ones look for room.
        let mut numbers = Vec::new();
        for key in gone {
            if let Some(gone) = self.placed_pools.remove(&key) {
                self.space.retire_pool(&gone, now);
                self.space.retire_number(gone.number, now);
                numbers.push(gone.number);
                names.push(key);
            }
        }
        let (stay, new): (Vec<Pool>, Vec<Pool>) = changed
            .into_iter()
            .partition(|pool| self.placed_pools.contains_key(&pool.key));
        for pool in stay.into_iter().chain(new) {
            let placed = match self.placed_pools.get(&pool.key).cloned() {
                Some(placed) if placed.pool == pool => continue,
                Some(placed) => {
                    let mut changed = self.change(&placed, pool, now, writes)?;
                    changed.history = history::after(Some(&placed), &changed, generation);
                    self.sweep_is_due |= placed.flows_change_in(&changed);
                    changed
                }
                None => {
                    let mut new = self.place(pool, None, now, writes)?;
                    new.history = history::after(None, &new, generation);
                    new
                }
            };
            names.push(placed.pool.key.clone());
            self.placed_pools.insert(Arc::new(placed));
        }
        names.sort_unstable();
        numbers.sort_unstable();
        Ok(Changed {
            keys: names,
            gone: numbers,
        })
    }

    /// Begins the rest of all that waits to be usable again anew. After tables were read back, the first plan gives up
    /// what nothing is to lead to any more, not the reading.
    fn rest_anew(&mut self, now: Instant) {
        self.space.rest_anew(now);
        self.placed_pools.update(|placed| {
            let mut anew = placed.clone();
            for cell in &mut anew.cells {
                if matches!(cell, Cell::Cooling(_)) {
                    *cell = Cell::Cooling(now);
                }
            }
            (anew.cells != placed.cells).then_some(anew)
        });
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
