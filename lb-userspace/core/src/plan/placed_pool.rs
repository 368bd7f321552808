//! One pool in its cells, and how it takes a new meaning there.
//!
//! Invariant: a cell that packets can reach, or reached of late, changes in its MACs only.

use std::{
    collections::HashMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::abi::{FlowKey, FlowValue, Slot};

use super::{
    pool::{Pool, PoolMember, PoolOrigin},
    slots::{Care, FlowFate, Owners, SlotTable},
    target::TargetCell,
    write::Write,
};
use crate::desired::{BackendId, Protocol, Service, TrackingPolicy};
use crate::schedule::History;

/// How long cells that were given up are left alone. A packet holds what it read for microseconds; a stalled virtual
/// CPU may stretch that.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(1);

/// A target cell of a pool.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// Never led to, or not for [`COOL_DOWN`], and no flow names it.
    Free,
    /// Given up at that time.
    Cooling(Instant),
    /// Somebody's.
    Owned(BackendId, TargetCell),
}

/// A pool and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlacedPool {
    pub(super) pool: Pool,
    /// The number that service keys, flows and counters know it by.
    pub(super) number: u32,
    pub(super) targets: Range<u32>,
    /// Of each target cell, whose it is. A backend keeps its cell's index as long as flows may name it, also when the
    /// pool moves.
    pub(super) cells: Vec<Cell>,
    pub(super) slot_lines: Range<u32>,
    pub(super) slots: SlotTable,
    /// Cells whose owner has another cell now: from, to. Flows may still name the first.
    pub(super) renamed: Vec<(u32, u32)>,
    /// How the slots came to be, where the scheduler starts from the last ones; absent, too, of a pool that was read
    /// back and whose history is not known.
    pub(super) history: Option<Arc<History>>,
    /// Flows of backends that are out and wanted back.
    pub(super) parked: Arc<[Parked]>,
}

/// An entry of the flow table that waits for its backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parked {
    pub(super) id: BackendId,
    pub(super) key: FlowKey,
    pub(super) value: FlowValue,
}

/// A placed pool, for listings.
#[derive(Clone, Copy, Debug)]
pub struct PoolView<'a>(pub(super) &'a PlacedPool);

impl PoolView<'_> {
    /// Size of the slot table.
    pub fn slots(&self) -> usize {
        self.0.slots.len()
    }

    /// How many slots have changed their owner of late, so that their flows are looked up.
    pub fn migrating_slots(&self) -> usize {
        self.0.slots.migrating.len()
    }

    /// The number that the pool's counters are kept under.
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// How many slots each backend of the pool owns now.
    pub fn owned(&self) -> HashMap<BackendId, usize> {
        let mut by_cell = vec![0; self.0.cells.len()];
        for owner in self.0.slots.current.iter().filter_map(|slot| slot.owner()) {
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
    pub(super) previous: Vec<Write>,
    /// Flows that are known again: before packets ask for them.
    pub(super) flows: Vec<Write>,
    pub(super) slots: Vec<Write>,
}

impl PlacedPool {
    pub(super) fn owned(&self) -> impl Iterator<Item = (u32, BackendId, TargetCell)> {
        self.cells
            .iter()
            .enumerate()
            .filter_map(|(local, cell)| match cell {
                Cell::Owned(id, entry) => Some((local as u32, *id, *entry)),
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

    /// Where each backend's cell is.
    pub(super) fn cell_of(&self) -> HashMap<BackendId, u32> {
        self.owned().map(|(local, id, _)| (id, local)).collect()
    }

    /// This pool with a new meaning in the same cells; `None` when they do not suffice.
    pub(super) fn in_place(&self, pool: &Pool, now: Instant, writes: &mut Writes) -> Option<Self> {
        let mut next = self.clone();
        let mut fills = Vec::new();
        let mut at = self.cell_of();
        for member in &pool.members {
            let present = at.remove(&member.id);
            let local = match present.map(|local| (local, &self.cells[local as usize])) {
                // Out of reach while unresolved; the last known way is kept for answers still on the road.
                Some(_) if member.entry == TargetCell::default() => continue,
                Some((_, Cell::Owned(_, entry))) if *entry == member.entry => continue,
                Some((local, Cell::Owned(_, entry))) if *entry == TargetCell::default() => local,
                Some((local, Cell::Owned(_, entry))) if entry.differs_in_macs_only(&member.entry) => {
                    next.cells[local as usize] = Cell::Owned(member.id, member.entry);
                    fills.push(Write::Macs {
                        index: self.targets.start + local,
                        target: member.entry.target,
                    });
                    continue;
                }
                present => {
                    let free = next.cells.iter().position(|cell| *cell == Cell::Free)? as u32;
                    if let Some((local, _)) = present {
                        next.cells[local as usize] = Cell::Cooling(now);
                        next.rename(local, free);
                    }
                    free
                }
            };
            next.cells[local as usize] = Cell::Owned(member.id, member.entry);
            fills.push(Write::Target {
                index: self.targets.start + local,
                entry: member.entry,
            });
        }
        for gone in at.into_values() {
            next.cells[gone as usize] = Cell::Cooling(now);
        }
        next.pool = pool.clone();
        next.slots = self.slots_after(&next, now);
        if next.slots != self.slots && !self.same_front(pool) {
            // Slots change before keys do: packets that come by the old keys would meet the new backends.
            return None;
        }
        writes.targets.extend(fills);
        next.release_flows(writes);
        writes.add_slots(next.slot_lines.start, &self.slots, &next.slots);
        Some(next)
    }

    /// The slots that this pool's owners ask for in `next`'s cells, flows looked after. The number of slots may grow.
    pub(super) fn slots_after(&self, next: &Self, now: Instant) -> SlotTable {
        let wanted = next.wanted_owners();
        let service = &next.pool.service;
        let care = Care {
            tracked: service.tracking != TrackingPolicy::Never,
            sees_opens: service.protocol != Protocol::Udp,
            lends: self.pool.declares_the_same(&next.pool)
                && (!self.slots.lent.is_empty() || self.pool.loses_members_in(&next.pool)),
        };
        let owners = Step::new(self, next);
        if wanted.len() > self.slots.len() {
            let grown = self.slots.grown_to(wanted.len());
            return grown.changed(&wanted, &owners, care, now);
        }
        self.slots.changed(&wanted, &owners, care, now)
    }

    /// Whom each slot belongs to once everybody whom `next` wants back is back, as indexes of members; `None` where
    /// nothing is lent.
    pub(super) fn homes(&self, next: &Pool) -> Option<Vec<u16>> {
        if self.slots.lent.is_empty() {
            return None;
        }
        let wanted: HashMap<BackendId, bool> = next
            .members
            .iter()
            .map(|member| (member.id, member.weight > 0 || member.away > 0))
            .collect();
        let mut member_of = vec![u16::MAX; self.cells.len()];
        let at = self.cell_of();
        for (index, member) in (0..).zip(&self.pool.members) {
            if let Some(local) = at
                .get(&member.id)
                .filter(|_| wanted.get(&member.id) == Some(&true))
            {
                member_of[*local as usize] = index;
            }
        }
        let mut homes = match &self.pool.owners {
            Some(owners) => owners.to_vec(),
            None => vec![u16::MAX; self.slots.len()],
        };
        for loan in self.slots.lent.iter() {
            let home = member_of.get(usize::from(loan.home)).copied().unwrap_or(u16::MAX);
            if home != u16::MAX {
                homes[loan.slot as usize] = home;
            }
        }
        Some(homes)
    }

    /// Gives flows back to backends that are back, and forgets those of backends that are not wanted any more.
    pub(super) fn release_flows(&mut self, writes: &mut Writes) {
        if self.parked.is_empty() {
            return;
        }
        let at = self.cell_of();
        let members: HashMap<BackendId, &PoolMember> = self
            .pool
            .members
            .iter()
            .map(|member| (member.id, member))
            .collect();
        let mut kept = Vec::new();
        for parked in self.parked.iter() {
            let Some((member, local)) = members.get(&parked.id).zip(at.get(&parked.id)) else {
                continue;
            };
            if member.flows != FlowFate::Cut {
                writes.flows.push(Write::Flow {
                    key: parked.key,
                    value: parked.value.with_owner(*local),
                });
            } else if member.away > 0 && self.awaits(parked) {
                kept.push(*parked);
            }
        }
        self.parked = kept.into();
    }

    /// Whether a flow's slot waits for its backend: then whoever opens a flow by the same ends is written down.
    pub(super) fn awaits(&self, parked: &Parked) -> bool {
        let slot = parked.key.slot((self.slots.len() - 1) as u16);
        let home = self.slots.awaited(slot);
        home.is_some_and(|home| matches!(self.cells[home as usize], Cell::Owned(id, _) if id == parked.id))
    }

    /// Flows that name cell `from` belong to cell `to` from now on.
    fn rename(&mut self, from: u32, to: u32) {
        for (_, last) in &mut self.renamed {
            if *last == from {
                *last = to;
            }
        }
        self.renamed.push((from, to));
    }

    /// What becomes of the flows of each cell's owner.
    pub(super) fn flows_by_cell(&self) -> Vec<FlowFate> {
        let mut flows = vec![FlowFate::Cut; self.cells.len()];
        let at = self.cell_of();
        for member in &self.pool.members {
            if let Some(local) = at.get(&member.id) {
                flows[*local as usize] = member.flows;
            }
        }
        flows
    }

    /// Whether flows of somebody here are cut, or named otherwise, in `next`.
    pub(super) fn flows_change_in(&self, next: &Self) -> bool {
        let (now, then) = (self.flows_by_cell(), next.flows_by_cell());
        next.renamed.len() > self.renamed.len()
            || now
                .iter()
                .zip(&then)
                .any(|(now, then)| *now != FlowFate::Cut && *then == FlowFate::Cut)
    }

    /// Whether the same packets lead to both pools, and by the same hash.
    fn same_front(&self, pool: &Pool) -> bool {
        let Pool {
            service, vips, flags, ..
        } = &self.pool;
        let keys = |service: &Service| (service.protocol, service.port);
        self.pool.origin != PoolOrigin::Torn
            && *vips == pool.vips
            && *flags == pool.flags
            && keys(service) == keys(&pool.service)
    }

    /// The owners that the pool asks for, without flags.
    pub(super) fn wanted_owners(&self) -> Vec<Slot> {
        let Some(owners) = &self.pool.owners else {
            return vec![Slot::NONE; self.pool.slots as usize];
        };
        let at = self.cell_of();
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

impl Writes {
    /// All that a pool in new cells needs.
    pub(super) fn fill(&mut self, placed: &PlacedPool) {
        let PlacedPool {
            targets,
            cells,
            slot_lines,
            slots,
            ..
        } = placed;
        for (local, cell) in cells.iter().enumerate() {
            let entry = match cell {
                Cell::Owned(_, entry) => *entry,
                // A flow may still name it, and must not meet whoever had the place before.
                Cell::Cooling(_) => TargetCell::default(),
                Cell::Free => continue,
            };
            let index = targets.start + local as u32;
            self.targets.push(Write::Target { index, entry });
        }
        self.previous.push(Write::Previous {
            line: slot_lines.start,
            slots: Arc::clone(&slots.previous),
        });
        self.slots.push(Write::Slots {
            line: slot_lines.start,
            slots: Arc::clone(&slots.current),
        });
    }

    /// What leads from slots that lie at `line` to others: previous owners first, so that no packet finds a flag
    /// without one.
    pub(super) fn add_slots(&mut self, line: u32, from: &SlotTable, to: &SlotTable) {
        if from.previous != to.previous {
            self.previous.push(Write::Previous {
                line,
                slots: Arc::clone(&to.previous),
            });
        }
        if from.current != to.current {
            self.slots.push(Write::Slots {
                line,
                slots: Arc::clone(&to.current),
            });
        }
    }
}

/// The owners of a pool's slots on the way to its next meaning.
struct Step {
    now_at: Vec<Option<u32>>,
    flows: Vec<FlowFate>,
    away: Vec<bool>,
    stay: bool,
}

impl Step {
    fn new(from: &PlacedPool, to: &PlacedPool) -> Self {
        let at = to.cell_of();
        let mut now_at = vec![None; from.cells.len()];
        let mut stay = true;
        for (local, id, _) in from.owned() {
            let now = at.get(&id).copied();
            stay &= now.is_none_or(|now| now == local);
            now_at[local as usize] = now;
        }
        // Slots still name them only where an agent died before it had changed them all.
        for (local, owner) in &from.renamed {
            now_at[*local as usize] = now_at[*local as usize].or(now_at[*owner as usize]);
        }
        let mut away = vec![false; to.cells.len()];
        for member in to.pool.members.iter().filter(|member| member.away > 0) {
            if let Some(local) = at.get(&member.id) {
                away[*local as usize] = true;
            }
        }
        Self {
            stay,
            now_at,
            flows: to.flows_by_cell(),
            away,
        }
    }
}

impl Owners for Step {
    fn now_at(&self, owner: u32) -> Option<u32> {
        self.now_at.get(owner as usize).copied().flatten()
    }

    fn stay(&self) -> bool {
        self.stay
    }

    fn flows(&self, owner: u32) -> FlowFate {
        self.flows.get(owner as usize).copied().unwrap_or_default()
    }

    fn is_away(&self, owner: u32) -> bool {
        self.away.get(owner as usize).copied().unwrap_or_default()
    }
}
