//! Pools that were read back, from tables or a snapshot.
//!
//! What a pool means is its operator's decision and cannot be read back. What packets find of a pool can be read back:
//! which backends have its cells, which of them own its slots, and which keys lead to it. A plan can start from that.
//!
//! Invariant: a pool that was read back changes only by a plan, which brings it to the desired state like any other.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Instant};

use lb_common::abi::{ServiceFlags, Slot};

use crate::desired::{BackendId, Forwarder, Prefix, Protocol, Service, ServicePort};
use crate::plan::{
    layout::{
        placed_pool::{Cell, PlacedPool},
        records::FoundCell,
    },
    pools::{
        pool::{FlowFate, Pool, PoolKey, PoolMember, PoolOrigin},
        slots::{LentSlot, MigratingSlot, SlotTable},
    },
    tables::service_flags::FlaggedWords,
};

/// What leads packets to a pool, and how the pool treats them.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) struct MatchKey {
    pub(in crate::plan) vips: Vec<Prefix>,
    pub(in crate::plan) protocol: Protocol,
    pub(in crate::plan) port: ServicePort,
    pub(in crate::plan) flags: ServiceFlags,
    /// [`PoolOrigin::Recovered`] or [`PoolOrigin::Torn`].
    pub(in crate::plan) origin: PoolOrigin,
}

/// A pool's cells, by what was written about them.
#[derive(Clone, Debug, Default)]
pub(in crate::plan) struct Cells {
    pub(in crate::plan) cells: Vec<Cell>,
    pub(in crate::plan) renamed: Vec<(u32, u32)>,
}

impl Cells {
    /// The cells of a run, in order. If a backend was given several cells, the last of them is its own.
    pub(in crate::plan) fn new(found: &[FoundCell], now: Instant) -> Self {
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
                FoundCell::Free => Cell::Free,
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

    /// The cell that a backend has now which a slot names by cell `named`; `None` if no backend has that cell.
    pub(in crate::plan) fn owner(&self, named: u32) -> Option<u32> {
        let renamed = self.renamed.iter().find(|(from, _)| *from == named);
        let owner = renamed.map_or(named, |(_, to)| *to);
        matches!(self.cells.get(owner as usize), Some(Cell::Owned(..))).then_some(owner)
    }
}

/// Where a pool lies that was read back.
pub(in crate::plan) struct RecoveredLocation {
    pub(in crate::plan) number: u32,
    pub(in crate::plan) targets: Range<u32>,
    pub(in crate::plan) slot_lines: Range<u32>,
}

/// The slots of a pool. The windows of migrating slots and the loans of lent slots begin anew, since their begin is not
/// known.
pub(in crate::plan) fn slot_table(
    current: Arc<[Slot]>,
    previous: Arc<[Slot]>,
    cells: &Cells,
    now: Instant,
) -> SlotTable {
    let loan = |(slot, (current, previous)): (u32, (&Slot, &Slot))| {
        let home = previous.is_lent().then(|| previous.owner()).flatten()?;
        let home = cells.owner(home)?;
        // An agent that died before it had lent the slot leaves the home as the present owner.
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

/// The pool in its cells, as far as it is known.
pub(in crate::plan) fn placed_pool(
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

/// A service that leads to such tables. It has no backends, since the pool has them. Its times are the defaults until a
/// plan brings the operator's.
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
