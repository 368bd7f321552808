//! How a pool takes a new meaning in its cells.

use std::{collections::HashMap, sync::Arc, time::Instant};

use lb_common::abi::Slot;

use super::{Cell, PlacedPool};
use crate::desired::{BackendId, Protocol, Scheduler, Service, TrackingPolicy};
use crate::plan::{
    layout::pool_writes::PoolWrites,
    pools::{
        pool::{FlowFate, Pool, PoolMember, PoolOrigin},
        slots::{Care, Owners, SlotTable},
    },
    tables::{target::TargetCell, write::Write},
};

impl PlacedPool {
    /// This pool with a new meaning in the same cells; `None` if these cells do not suffice.
    pub(in crate::plan) fn in_place(
        &self,
        pool: &Pool,
        now: Instant,
        writes: &mut PoolWrites,
    ) -> Option<Self> {
        let mut next = Self {
            pool: pool.clone(),
            number: self.number,
            targets: self.targets.clone(),
            cells: self.cells.clone(),
            slot_lines: self.slot_lines.clone(),
            slots: self.slots.clone(),
            renamed: self.renamed.clone(),
            history: self.history.clone(),
            parked: Arc::clone(&self.parked),
        };
        let mut fills = Vec::new();
        let mut at = self.cell_of();
        for member in &pool.members {
            let present = at.remove(&member.id);
            let local = match present.map(|local| (local, &self.cells[local as usize])) {
                // An unresolved backend is out of reach. Answers on the road still use the last way that is known.
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
        next.slots = self.slots_after(&next, now);
        if next.slots != self.slots && !self.has_the_match_of(pool) {
            // Slots change before keys do, so packets that come by the old keys would meet the new backends.
            return None;
        }
        writes.targets.extend(fills);
        next.release_flows(writes);
        writes.add_slots(next.slot_lines.start, &self.slots, &next.slots);
        Some(next)
    }

    /// The slots of this pool once `next` has taken its place, with what its flows need. The number of slots may grow.
    pub(in crate::plan) fn slots_after(&self, next: &Self, now: Instant) -> SlotTable {
        let wanted = next.wanted_owners();
        let service = &next.pool.service;
        let care = Care {
            tracked: service.tracking != TrackingPolicy::Never,
            sees_opens: service.protocol != Protocol::Udp,
            lends: self.pool.declares_the_same(&next.pool)
                && (!self.slots.lent.is_empty() || self.pool.loses_members_in(&next.pool)),
        };
        let owners = NextOwners::new(self, next);
        if wanted.len() > self.slots.len() {
            let grown = self.slots.grown_to(wanted.len());
            return grown.changed(&wanted, &owners, care, now);
        }
        self.slots.changed(&wanted, &owners, care, now)
    }

    /// Which member owns each slot once every backend is back that `next` wants back; `None` if no slot is lent, or if
    /// `next` has a scheduler that does not bring slots home.
    pub(in crate::plan) fn homes(&self, next: &Pool) -> Option<Vec<u16>> {
        if self.slots.lent.is_empty() || next.service.scheduler != Scheduler::Consistent {
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

    /// Whether both pools are reached by the same packets and spread them by the same hash.
    fn has_the_match_of(&self, pool: &Pool) -> bool {
        let Pool {
            service, vips, flags, ..
        } = &self.pool;
        let keys = |service: &Service| (service.protocol, service.port);
        self.pool.origin != PoolOrigin::Torn
            && *vips == pool.vips
            && *flags == pool.flags
            && keys(service) == keys(&pool.service)
    }

    /// The slots with the owners that the pool asks for, without flags.
    pub(in crate::plan) fn wanted_owners(&self) -> Vec<Slot> {
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

/// The owners of a pool's slots on the way to its next meaning.
struct NextOwners {
    now_at: Vec<Option<u32>>,
    flows: Vec<FlowFate>,
    away: Vec<bool>,
    stay: bool,
}

impl NextOwners {
    fn new(from: &PlacedPool, to: &PlacedPool) -> Self {
        let at = to.cell_of();
        let mut now_at = vec![None; from.cells.len()];
        let mut stay = true;
        for (local, id, _) in from.owned() {
            let now = at.get(&id).copied();
            stay &= now.is_none_or(|now| now == local);
            now_at[local as usize] = now;
        }
        // Slots name cells that were given up only where an agent died before it had changed all slots.
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

impl Owners for NextOwners {
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
