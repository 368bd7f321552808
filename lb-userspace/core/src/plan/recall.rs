//! Pools that were read back, from tables or a checkpoint.
//!
//! What a pool means is its operator's wish and cannot be read back; what packets find of it can: who is in its
//! cells, who owns its slots, what leads to it. That is enough for a plan to start from. Invariant: such a pool
//! changes only by a plan, which brings it to the desired state like any other.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Instant,
};

use lb_common::abi::{ServiceFlags, Slot};

use super::{
    layout::{BackendRef, Layout},
    memory::Memory,
    placed_pool::{Cell, PlacedPool},
    pool::{Pool, PoolKey, PoolMember, PoolOrigin},
    service_flags::FlaggedWords,
    slots::{FlowFate, LentSlot, MigratingSlot, SlotTable},
    target::TargetCell,
};
use crate::desired::{BackendId, Forwarder, Prefix, Protocol, Service, ServicePort};

/// What leads packets to a pool, and how it treats them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MatchKey {
    pub(super) vips: Vec<Prefix>,
    pub(super) protocol: Protocol,
    pub(super) port: ServicePort,
    pub(super) flags: ServiceFlags,
    /// [`PoolOrigin::Recovered`] or [`PoolOrigin::Torn`].
    pub(super) origin: PoolOrigin,
}

/// What was written about a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FoundCell {
    /// It has been free since the pool has lain there.
    Nobody,
    /// It is nobody's, but flows may name it.
    Gone,
    /// It was given to a backend.
    Of {
        id: BackendId,
        /// Grows from one time that cells are given to the next.
        serial: u64,
        entry: TargetCell,
    },
}

/// A pool's cells, by what was written about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    pub(super) cells: Vec<Cell>,
    pub(super) renamed: Vec<(u32, u32)>,
}

impl Cells {
    /// Cells in order. Of a backend's cells the last that it was given is its own.
    pub(super) fn new(found: &[FoundCell], now: Instant) -> Self {
        let mut own: HashMap<BackendId, (u64, usize)> = HashMap::new();
        for (local, cell) in found.iter().enumerate() {
            if let FoundCell::Of { id, serial, .. } = cell {
                let newest = own.entry(*id).or_insert((*serial, local));
                *newest = (*newest).max((*serial, local));
            }
        }
        let mut this = Self::default();
        for (local, cell) in found.iter().enumerate() {
            this.cells.push(match cell {
                FoundCell::Nobody => Cell::Free,
                FoundCell::Gone => Cell::Cooling(now),
                FoundCell::Of { id, entry, .. } if own[id].1 == local => Cell::Owned(*id, *entry),
                FoundCell::Of { id, .. } => {
                    this.renamed.push((local as u32, own[id].1 as u32));
                    Cell::Cooling(now)
                }
            });
        }
        this
    }

    /// The cell that an owner of slots has now: its own or, if that was given up for another, the other.
    pub(super) fn owner(&self, named: u32) -> Option<u32> {
        let renamed = self.renamed.iter().find(|(from, _)| *from == named);
        let owner = renamed.map_or(named, |(_, to)| *to);
        matches!(self.cells.get(owner as usize), Some(Cell::Owned(..))).then_some(owner)
    }
}

/// Where a recalled pool lies.
pub(super) struct RecoveredLocation {
    pub(super) number: u32,
    pub(super) targets: Range<u32>,
    pub(super) slot_lines: Range<u32>,
}

/// The slots with the windows of the unsafe ones begun anew, and the time of the lent ones, since nobody knows when they
/// began.
pub(super) fn slot_table(
    current: Arc<[Slot]>,
    previous: Arc<[Slot]>,
    cells: &Cells,
    now: Instant,
) -> SlotTable {
    let loan = |(slot, (current, previous)): (u32, (&Slot, &Slot))| {
        let home = previous.is_lent().then(|| previous.owner()).flatten()?;
        let home = cells.owner(home)?;
        // So it is where an agent died before it had lent the slot.
        let stays = current.owner().and_then(|owner| cells.owner(owner)) == Some(home);
        (!stays).then_some(LentSlot {
            slot,
            home: home as u16,
            before: None,
            since: now,
        })
    };
    let lent = (0..)
        .zip(current.iter().zip(&*previous))
        .filter_map(loan)
        .collect();
    let flagged = current.iter().enumerate().filter(|(_, slot)| slot.is_migrating());
    let migrating = flagged
        .map(|(slot, _)| MigratingSlot {
            slot: slot as u32,
            since: now,
        })
        .collect();
    SlotTable {
        current,
        previous,
        migrating,
        lent,
    }
}

/// The pool as far as it can be told.
pub(super) fn placed(
    key: PoolKey,
    match_key: MatchKey,
    location: RecoveredLocation,
    cells: Cells,
    slots: SlotTable,
) -> PlacedPool {
    let mut members = Vec::new();
    let mut index = vec![u16::MAX; cells.cells.len()];
    for (local, cell) in cells.cells.iter().enumerate() {
        if let Cell::Owned(id, entry) = cell {
            index[local] = members.len() as u16;
            members.push(PoolMember {
                id: *id,
                entry: *entry,
                weight: 1,
                away: 0,
                flows: FlowFate::Keep,
            });
        }
    }
    let member = |slot: &Slot| {
        let owner = slot.owner().and_then(|named| cells.owner(named));
        owner.map_or(u16::MAX, |owner| index[owner as usize])
    };
    let owners: Vec<u16> = slots.current.iter().map(member).collect();
    let nobody = owners.iter().all(|owner| *owner == u16::MAX);
    let pool = Pool {
        service: Arc::new(service(&key, &match_key, slots.len())),
        key,
        vips: match_key.vips,
        flags: match_key.flags,
        slots: slots.len() as u32,
        members,
        owners: (!nobody).then(|| Arc::new(owners)),
        origin: match_key.origin,
    };
    PlacedPool {
        pool,
        number: location.number,
        targets: location.targets,
        cells: cells.cells,
        slot_lines: location.slot_lines,
        slots,
        renamed: cells.renamed,
        history: None,
        parked: Arc::from([]),
    }
}

/// A service that leads to such tables. Its backends are left to the pool; times are the usual ones until a plan
/// brings the operator's.
fn service(key: &PoolKey, match_key: &MatchKey, slots: usize) -> Service {
    let MatchKey {
        vips, protocol, port, ..
    } = match_key;
    let FlaggedWords {
        affinity,
        on_empty,
        unserved,
        tracking,
    } = match_key.flags.into();
    Service {
        affinity,
        on_empty,
        unserved,
        tracking,
        slots: Some(slots as u32),
        ..Service::new(
            key.service.clone(),
            vips.clone(),
            *protocol,
            *port,
            Forwarder::L2dsr,
        )
    }
}

impl Layout {
    /// The generation of the desired state that the tables show.
    pub fn generation(&self) -> u64 {
        self.control.generation
    }

    /// Backends that packets may be sent to: they own a slot, or owned one before, or own a flow that is written down.
    /// (One that drains may have nothing but such flows.)
    pub fn serving(&self, memory: &mut (impl Memory + ?Sized)) -> HashSet<BackendRef> {
        let mut serving = HashSet::new();
        let mut by_number = HashMap::new();
        for placed in self.placed.values() {
            let SlotTable {
                current,
                previous,
                migrating,
                ..
            } = &placed.slots;
            // The home of a lent slot is out.
            let before = migrating.iter().map(|entry| previous[entry.slot as usize]);
            let before = before.filter(|slot| !slot.is_lent());
            let named = current.iter().copied().chain(before).filter_map(Slot::owner);
            serving.extend(named.map(|owner| (placed.number, owner)));
            by_number.insert(placed.number, placed);
        }
        memory.visit_flows(&mut |_, value| {
            serving.insert((value.service(), value.owner()));
            None
        });
        let backend_ref = |(number, named): (u32, u32)| {
            let placed = by_number.get(&number)?;
            let renamed = placed.renamed.iter().find(|(from, _)| *from == named);
            let owner = renamed.map_or(named, |(_, to)| *to);
            match placed.cells.get(owner as usize)? {
                Cell::Owned(backend, _) => Some(BackendRef {
                    service: placed.pool.key.service.clone(),
                    backend: *backend,
                }),
                Cell::Free | Cell::Cooling(_) => None,
            }
        };
        serving.into_iter().filter_map(backend_ref).collect()
    }

    /// Before the first plan after tables were read back: what nothing is to lead to any more is given up by that
    /// plan, not when it was read.
    pub(super) fn begin(&mut self, now: Instant) {
        self.recalled = false;
        for retired in &mut self.retired {
            retired.at = now;
        }
        for retired in &mut self.retired_numbers {
            retired.at = now;
        }
        for placed in self.placed.values_mut() {
            for cell in &mut Arc::make_mut(placed).cells {
                if matches!(cell, Cell::Cooling(_)) {
                    *cell = Cell::Cooling(now);
                }
            }
        }
    }
}
