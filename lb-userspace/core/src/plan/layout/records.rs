//! The records beside the tables: which pool a number stands for, and which backend a target cell belongs to.
//!
//! Invariant: a record is written after its target is filled and before anything leads there. Whichever write is the
//! last one, the records explain all that packets can reach, and what they name is complete.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU16,
    sync::Arc,
};

use bytemuck::Zeroable;
use imbl::OrdMap;
use lb_common::abi::{CellEntry, NAME_BYTES, PoolEntry, PoolLocation, ServiceEntry};

use super::{
    Layout,
    placed_pool::{Cell, PlacedPool},
    placed_pools::PlacedPools,
};
use crate::desired::{BackendId, ServiceName};
use crate::plan::{
    pools::pool::PoolKey,
    tables::{target::TargetCell, write::Write},
};

/// The records as the maps have them.
#[derive(Clone, Debug, Default)]
pub(in crate::plan) struct Records {
    /// The greatest serial in any record; see [`CellEntry::serial`].
    pub(in crate::plan) serial: u64,
    /// The records of pools by number, outdated ones too.
    pub(in crate::plan) pools: OrdMap<u32, PoolEntry>,
}

impl Records {
    /// Takes up the records that the `changed` ones of `pools` need and the layout `before` lacked. Yields their writes.
    pub(in crate::plan) fn change(
        &mut self,
        changed: &[PoolKey],
        pools: &PlacedPools,
        before: &Layout,
    ) -> Vec<Write> {
        let mut writes = Vec::new();
        // The serial below is for cells whose owner has another cell.
        let serial = self.serial + 2;
        for (key, placed) in changed.iter().filter_map(|key| Some((key, pools.get(key)?))) {
            let old = before
                .placed_pools
                .get(key)
                .filter(|old| old.number == placed.number);
            match old {
                Some(old) if Arc::ptr_eq(old, placed) => {}
                Some(old) if lie_together(old, placed) => note_cells(placed, Some(old), serial, &mut writes),
                old => {
                    let known = old.and_then(|old| before.records.pools.get(&old.number));
                    let reached = known.map_or_else(Vec::new, |_| before.published.leads_to(placed.number));
                    let record = with_location(known, key, placed.location(serial), &reached);
                    self.pools.insert(placed.number, record);
                    note_cells(placed, None, serial, &mut writes);
                    writes.push(Write::Pool {
                        number: placed.number as u16,
                        record,
                    });
                }
            }
        }
        if !writes.is_empty() {
            self.serial = serial;
        }
        writes
    }

    /// Clears the record of a number that stands for no pool any more and that no flow names.
    pub(in crate::plan) fn forget(&mut self, number: u32) -> Write {
        self.pools.remove(&number);
        Write::Pool {
            number: number as u16,
            record: PoolEntry::zeroed(),
        }
    }
}

/// Clears the records of cells that are free in `now` and were not `before`.
pub(in crate::plan) fn freed_cells(before: &PlacedPool, now: &PlacedPool) -> impl Iterator<Item = Write> {
    let cells = before.cells.iter().zip(&now.cells).enumerate();
    let freed = cells.filter(|(_, (before, now))| **now == Cell::Free && **before != Cell::Free);
    freed.map(|(local, _)| Write::Cell {
        index: now.targets.start + local as u32,
        record: CellEntry::default(),
    })
}

impl PlacedPool {
    /// Where the pool lies, as its record says it.
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

/// Whether `service` leads packets to that location.
pub(in crate::plan) fn is_at(location: &PoolLocation, service: &ServiceEntry) -> bool {
    location.target == service.target_base
        && location.slot_line == service.slot_line
        && location.slots == u32::from(service.slot_mask) + 1
}

fn lie_together(old: &PlacedPool, new: &PlacedPool) -> bool {
    old.targets == new.targets && old.slot_lines == new.slot_lines
}

/// A pool's record with one more location, in place of one that packets are not led to.
fn with_location(
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
    // Of two locations that agree, the newer one says how many cells there are.
    let outdated = |old: &PoolLocation| {
        let again = |other: &PoolLocation| {
            let same = (other.target, other.slot_line, other.slots) == (old.target, old.slot_line, old.slots);
            same && other.serial > old.serial
        };
        locations.iter().any(again)
    };
    let free = |old: &PoolLocation| outdated(old) || !reached.iter().any(|service| is_at(old, service));
    // Each of the two service tables leads to one location.
    if let Some(over) = record.locations.iter_mut().find(|old| free(old)) {
        *over = location;
    }
    record
}

/// Adds the records of cells that were given to backends; of a pool in new cells, the records of all cells.
fn note_cells(placed: &PlacedPool, old: Option<&PlacedPool>, serial: u64, writes: &mut Vec<Write>) {
    for (local, cell) in placed.cells.iter().enumerate() {
        let record = match (old.map(|old| &old.cells[local]), cell) {
            (Some(Cell::Owned(old, _)), Cell::Owned(new, _)) if old == new => continue,
            (_, Cell::Owned(id, _)) => cell_record(Some(*id), placed.number, serial),
            // The record of a cell that was given up still names its backend, since flows may name the cell.
            (Some(_), Cell::Cooling(_) | Cell::Free) => continue,
            (None, Cell::Cooling(_)) => match &placed.cells[placed.present_cell(local as u32) as usize] {
                Cell::Owned(id, _) => cell_record(Some(*id), placed.number, serial - 1),
                _ => cell_record(None, placed.number, serial - 1),
            },
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

/// What was written about a cell of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::plan) enum FoundCell {
    /// The cell has been free since the pool has lain there.
    Free,
    /// The cell was given up, but flows may name it.
    Gone,
    /// The cell was given to a backend.
    Of {
        id: BackendId,
        /// Grows from one time that cells are given to backends to the next.
        serial: u64,
        entry: TargetCell,
    },
}

/// What a cell's record says, for the pool of that number. `entry` is the cell's content.
pub(in crate::plan) fn read(record: &CellEntry, number: u32, entry: TargetCell) -> FoundCell {
    if record.serial == 0 || u32::from(record.number) != number {
        return FoundCell::Free;
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

/// The name of the pool that a record is about; `None` if the record has no valid name.
pub(in crate::plan) fn key_of(record: &PoolEntry) -> Option<PoolKey> {
    let end = record.name.iter().position(|byte| *byte == 0)?;
    let (name, rest) = record.name.split_at(end);
    let service: ServiceName = std::str::from_utf8(name).ok()?.parse().ok()?;
    let zeros = rest.iter().all(|byte| *byte == 0);
    (zeros && record.v6_part <= 1).then_some(PoolKey {
        service,
        v6_part: record.v6_part == 1,
    })
}
