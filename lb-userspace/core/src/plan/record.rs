//! Keeping the records beside the tables: which service a number is, and which backend a target cell is.
//!
//! Invariant: a record is written after its target is filled and before anything leads there, so that whichever write
//! is the last one, the records explain all that packets can reach, and what they name is complete.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU16,
    sync::Arc,
};

use bytemuck::Zeroable;
use lb_common::abi::{CellEntry, NAME_BYTES, PoolEntry, PoolLocation, Selector, ServiceEntry};

use super::{
    layout::Layout,
    placed_pool::{Cell, PlacedPool},
    pool::PoolKey,
    recall::FoundCell,
    target::TargetCell,
    write::Write,
};
use crate::desired::{BackendId, ServiceName};

/// The records of pools as the map has them.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// The greatest in any record; see [`CellEntry::serial`].
    pub(super) serial: u64,
    /// By number; outdated ones too.
    pub(super) pools: BTreeMap<u32, PoolEntry>,
}

impl Records {
    /// The number stands for nobody any more, and no flow names it.
    pub(super) fn forget(&mut self, number: u32) -> Write {
        self.pools.remove(&number);
        Write::Pool {
            number: number as u16,
            record: PoolEntry::zeroed(),
        }
    }
}

/// Records of cells that nothing leads to any more, nor any flow names.
pub(super) fn freed_cells(before: &PlacedPool, now: &PlacedPool) -> impl Iterator<Item = Write> {
    let cells = before.cells.iter().zip(&now.cells).enumerate();
    let freed = cells.filter(|(_, (before, now))| **now == Cell::Free && **before != Cell::Free);
    freed.map(|(local, _)| Write::Cell {
        index: now.targets.start + local as u32,
        record: CellEntry::default(),
    })
}

impl Layout {
    /// The records that this layout needs and `before` had not, noted here too.
    pub(super) fn note(&mut self, before: &Self) -> Vec<Write> {
        let mut writes = Vec::new();
        // The one below is for cells whose owner has another.
        let serial = self.records.serial + 2;
        for (key, placed) in &self.placed {
            let old = before.placed.get(key).filter(|old| old.number == placed.number);
            match old {
                Some(old) if Arc::ptr_eq(old, placed) => {}
                Some(old) if lie_together(old, placed) => note_cells(placed, Some(old), serial, &mut writes),
                old => {
                    let known = old.and_then(|old| before.records.pools.get(&old.number));
                    let reached = known.map_or_else(Vec::new, |_| before.leads_to(placed.number));
                    let record = with_place(known, key, placed.location(serial), &reached);
                    self.records.pools.insert(placed.number, record);
                    note_cells(placed, None, serial, &mut writes);
                    writes.push(Write::Pool {
                        number: placed.number as u16,
                        record,
                    });
                }
            }
        }
        if !writes.is_empty() {
            self.records.serial = serial;
        }
        writes
    }

    /// What packets to the pool of that number are led to.
    fn leads_to(&self, number: u32) -> Vec<ServiceEntry> {
        let v4 = self
            .keys4
            .iter()
            .map(|(key, service)| (Selector((key.0 >> 32) as u32), service));
        let v6 = self
            .keys6
            .iter()
            .map(|(key, service)| (Selector(key.0[2] as u32), service));
        v4.chain(v6)
            .filter(|(selector, service)| service.number() == number && selector.leads_to_slots())
            .map(|(_, service)| *service)
            .collect()
    }
}

impl PlacedPool {
    fn location(&self, serial: u64) -> PoolLocation {
        PoolLocation {
            target: self.targets.start,
            targets: self.targets.len() as u32,
            slot_line: self.slot_lines.start,
            slots: self.slots.len() as u32,
            serial,
        }
    }
}

/// Whether that is where packets are led.
pub(super) fn is_at(location: &PoolLocation, service: &ServiceEntry) -> bool {
    location.target == service.target_base
        && location.slot_line == service.slot_line
        && location.slots == u32::from(service.slot_mask) + 1
}

fn lie_together(old: &PlacedPool, new: &PlacedPool) -> bool {
    old.targets == new.targets && old.slot_lines == new.slot_lines
}

/// A pool's record with one more place, over one that packets are not led to.
fn with_place(
    known: Option<&PoolEntry>,
    key: &PoolKey,
    location: PoolLocation,
    reached: &[ServiceEntry],
) -> PoolEntry {
    let mut record = known.copied().unwrap_or_else(PoolEntry::zeroed);
    let name = key.service.as_str().as_bytes();
    record.name = [0; NAME_BYTES];
    for (to, from) in record.name.iter_mut().zip(name) {
        *to = *from;
    }
    record.v6_part = u32::from(key.v6_part);
    record.used = 1;
    let locations = record.locations;
    // Of two places that agree, the newer one says how many cells there are.
    let outdated = |old: &PoolLocation| {
        let again = |other: &PoolLocation| {
            let same = (other.target, other.slot_line, other.slots) == (old.target, old.slot_line, old.slots);
            same && other.serial > old.serial
        };
        locations.iter().any(again)
    };
    let free = |old: &PoolLocation| outdated(old) || !reached.iter().any(|service| is_at(old, service));
    // Each of the two service tables leads to one place.
    if let Some(over) = record.locations.iter_mut().find(|old| free(old)) {
        *over = location;
    }
    record
}

/// Records of the cells that became somebody's; in a new place, of all cells.
fn note_cells(placed: &PlacedPool, old: Option<&PlacedPool>, serial: u64, writes: &mut Vec<Write>) {
    for (local, cell) in placed.cells.iter().enumerate() {
        let record = match (old.map(|old| &old.cells[local]), cell) {
            (Some(Cell::Owned(old, _)), Cell::Owned(new, _)) if old == new => continue,
            (_, Cell::Owned(id, _)) => cell_record(Some(*id), placed.number, serial),
            // What was given up still says whose it was: flows may name it.
            (Some(_), Cell::Cooling(_) | Cell::Free) => continue,
            (None, Cell::Cooling(_)) => {
                let renamed = placed.renamed.iter().find(|(from, _)| *from as usize == local);
                match renamed.map(|(_, to)| &placed.cells[*to as usize]) {
                    Some(Cell::Owned(id, _)) => cell_record(Some(*id), placed.number, serial - 1),
                    _ => cell_record(None, placed.number, serial - 1),
                }
            }
            (None, Cell::Free) => CellEntry::default(),
        };
        writes.push(Write::Cell {
            index: placed.targets.start + local as u32,
            record,
        });
    }
}

fn cell_record(id: Option<BackendId>, number: u32, serial: u64) -> CellEntry {
    let address = match id.map(|id| id.address) {
        Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped(),
        Some(IpAddr::V6(v6)) => v6,
        None => Ipv6Addr::UNSPECIFIED,
    };
    CellEntry {
        address: address.octets(),
        port: id.and_then(|id| id.port).map_or(0, |port| port.get().to_be()),
        number: number as u16,
        spare: 0,
        serial,
    }
}

/// What the record of a cell of the pool of that number says.
pub(super) fn read(record: &CellEntry, number: u32, entry: TargetCell) -> FoundCell {
    if record.serial == 0 || u32::from(record.number) != number {
        return FoundCell::Nobody;
    }
    match Ipv6Addr::from(record.address) {
        Ipv6Addr::UNSPECIFIED => FoundCell::Gone,
        address => FoundCell::Of {
            id: BackendId {
                address: address.to_canonical(),
                port: NonZeroU16::new(u16::from_be(record.port)),
            },
            serial: record.serial,
            entry,
        },
    }
}

/// The pool's name; `None` if that is no name.
pub(super) fn key_of(record: &PoolEntry) -> Option<PoolKey> {
    let end = record.name.iter().position(|byte| *byte == 0)?;
    let (name, rest) = record.name.split_at(end);
    let service: ServiceName = std::str::from_utf8(name).ok()?.parse().ok()?;
    let zeros = rest.iter().all(|byte| *byte == 0);
    (zeros && record.v6_part <= 1).then_some(PoolKey {
        service,
        v6_part: record.v6_part == 1,
    })
}
