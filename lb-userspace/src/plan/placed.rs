//! One pool in its cells, and how it takes a new meaning there.
//!
//! Invariant: a cell that packets can reach, or reached of late, changes in its MACs only.

use std::{
    collections::HashMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::abi::{Slot, Target};

use super::{
    pool::{Pool, PoolMember},
    write::Write,
};
use crate::model::{BackendId, Service};

/// How long cells that were given up are left alone. A packet holds what it read for microseconds; a stalled virtual
/// CPU may stretch that.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(1);

/// A target cell of a pool.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// Never led to, or not for [`COOL_DOWN`].
    Free,
    /// Given up at that time.
    Cooling(Instant),
    /// Somebody's.
    Owned(BackendId, Target),
}

/// A pool and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) pool: Pool,
    pub(super) id: u32,
    pub(super) targets: Range<u32>,
    pub(super) cells: Vec<Cell>,
    pub(super) slot_lines: Range<u32>,
    pub(super) slots: Arc<[Slot]>,
}

/// A placed pool, for listings.
#[derive(Clone, Copy, Debug)]
pub struct PoolView<'a>(pub(super) &'a Placed);

impl PoolView<'_> {
    /// Size of the slot table.
    pub fn slots(&self) -> usize {
        self.0.slots.len()
    }

    /// How many slots each backend of the pool owns now.
    pub fn owned(&self) -> HashMap<BackendId, usize> {
        let mut by_cell = vec![0; self.0.cells.len()];
        for owner in self.0.slots.iter().filter_map(|slot| slot.owner()) {
            by_cell[owner as usize] += 1;
        }
        self.0
            .owned()
            .map(|(local, id, _)| (id, by_cell[local as usize]))
            .collect()
    }
}

/// Writes of pools, by their place in the order.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) targets: Vec<Write>,
    pub(super) slots: Vec<Write>,
}

impl Placed {
    pub(super) fn owned(&self) -> impl Iterator<Item = (u32, BackendId, Target)> {
        self.cells
            .iter()
            .enumerate()
            .filter_map(|(local, cell)| match cell {
                Cell::Owned(id, target) => Some((local as u32, *id, *target)),
                Cell::Free | Cell::Cooling(_) => None,
            })
    }

    /// Whether each cell that belongs to somebody belongs to the same in `next`.
    pub(super) fn keeps_its_cells_in(&self, next: &Self) -> bool {
        let stays = |(old, new): (&Cell, &Cell)| match (old, new) {
            (Cell::Owned(old, _), Cell::Owned(new, _)) => old == new,
            (Cell::Owned(..), _) => false,
            (Cell::Free | Cell::Cooling(_), _) => true,
        };
        self.targets == next.targets && self.cells.iter().zip(&next.cells).all(stays)
    }

    pub(super) fn release(&mut self, cold: impl Fn(Instant) -> bool) {
        for cell in &mut self.cells {
            if matches!(cell, Cell::Cooling(at) if cold(*at)) {
                *cell = Cell::Free;
            }
        }
    }

    /// This pool with a new meaning in the same cells; `None` when they do not suffice.
    pub(super) fn in_place(&self, pool: &Pool, now: Instant, writes: &mut Writes) -> Option<Self> {
        let mut next = self.clone();
        let mut fills = Vec::new();
        next.release(|at| now.saturating_duration_since(at) >= COOL_DOWN);
        let mut at: HashMap<BackendId, usize> =
            self.owned().map(|(local, id, _)| (id, local as usize)).collect();
        for member in &pool.members {
            let present = at.remove(&member.id);
            let local = match present.map(|local| (local, &self.cells[local])) {
                // Out of reach while unresolved; the last known way is kept for answers still on the road.
                Some(_) if member.target == Target::default() => continue,
                Some((_, Cell::Owned(_, target))) if *target == member.target => continue,
                Some((local, Cell::Owned(_, target))) if *target == Target::default() => local,
                Some((local, Cell::Owned(_, target))) if differ_in_macs_only(target, &member.target) => {
                    next.cells[local] = Cell::Owned(member.id, member.target);
                    fills.push(Write::Macs {
                        index: self.targets.start + local as u32,
                        target: member.target,
                    });
                    continue;
                }
                present => {
                    if let Some((local, _)) = present {
                        next.cells[local] = Cell::Cooling(now);
                    }
                    next.cells.iter().position(|cell| *cell == Cell::Free)?
                }
            };
            next.cells[local] = Cell::Owned(member.id, member.target);
            fills.push(Write::Target {
                index: self.targets.start + local as u32,
                target: member.target,
            });
        }
        for gone in at.into_values() {
            next.cells[gone] = Cell::Cooling(now);
        }
        next.pool = pool.clone();
        next.slots = next.wanted_slots();
        if next.slots != self.slots && !self.same_front(pool) {
            // Slots change before keys do: packets that come by the old keys would meet the new backends.
            return None;
        }
        writes.targets.extend(fills);
        if next.slots != self.slots {
            writes.slots.push(Write::Slots {
                line: next.slot_lines.start,
                slots: Arc::clone(&next.slots),
            });
        }
        Some(next)
    }

    /// Whether the same packets lead to both pools, and by the same hash.
    fn same_front(&self, pool: &Pool) -> bool {
        let Pool {
            service, vips, flags, ..
        } = &self.pool;
        let keys = |service: &Service| (service.protocol, service.port);
        *vips == pool.vips && *flags == pool.flags && keys(service) == keys(&pool.service)
    }

    /// The slot table that the pool's owners ask for.
    pub(super) fn wanted_slots(&self) -> Arc<[Slot]> {
        let Some(owners) = &self.pool.owners else {
            return std::iter::repeat_n(Slot::NONE, self.pool.slots as usize).collect();
        };
        let at: HashMap<BackendId, u32> = self.owned().map(|(local, id, _)| (id, local)).collect();
        let slot = |member: &PoolMember| {
            at.get(&member.id)
                .map_or(Slot::NONE, |l| Slot::owned_by(*l as u16))
        };
        let by_member: Vec<Slot> = self.pool.members.iter().map(slot).collect();
        owners
            .iter()
            .map(|owner| by_member[usize::from(*owner)])
            .collect()
    }
}

fn differ_in_macs_only(old: &Target, new: &Target) -> bool {
    Target {
        macs_head: new.macs_head,
        macs_tail: new.macs_tail,
        ..*old
    } == *new
}
