//! Taking over tables that an agent left, from the tables alone.
//!
//! Invariant: whichever write was the last one before the agent died, the layout read back explains all that packets
//! can reach, so that an ordinary plan leads from there to the desired state; and what cannot have been left by an agent is
//! refused, not repaired.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    time::Instant,
};

use lb_common::abi::{
    CellEntry, Control, MAX_CHAIN, Meaning, OptionsEntry, PoolEntry, PoolLocation, QuicSetEntry,
    SLOTS_PER_LINE, ServerLine, ServiceFlags, ServiceKey, ServiceLine, ServiceLine4, ServiceLine6, Slot,
    SlotLine, TableIndex, TagsEntry, TargetEntry,
};

use super::{
    capacity::Capacity,
    key_entries::{KeyEntry, locations, match_key, slot_lines, targets},
    keys::Entries,
    layout::{Layout, Retired, RetiredNumber},
    memory::Memory,
    options::OptionsTable,
    pool::{Pool, PoolKey},
    recall::{self, Cells, RecoveredLocation},
    record,
    sources::SourceEntry,
    target::TargetCell,
};
use crate::desired::ServiceName;

/// Tables that can be read back. Indexes are within the capacity that the tables were made for.
pub trait ReadBack: Memory {
    /// The control words.
    fn read_control(&self) -> Control;
    /// A line of the IPv4 service table.
    fn read_services4(&self, line: u32) -> ServiceLine4;
    /// A line of the IPv6 service table.
    fn read_services6(&self, line: u32) -> ServiceLine6;
    /// A line of slots.
    fn read_slots(&self, line: u32) -> SlotLine;
    /// A line of previous owners.
    fn read_previous(&self, line: u32) -> SlotLine;
    /// A target.
    fn read_target(&self, index: u32) -> TargetEntry;
    /// The tags of a target.
    fn read_tags(&self, index: u32) -> TagsEntry;
    /// What a number stands for.
    fn read_pool(&self, number: u32) -> PoolEntry;
    /// Whose a target is.
    fn read_cell(&self, index: u32) -> CellEntry;
    /// The options of a service.
    fn read_options(&self, number: u32) -> OptionsEntry;
    /// A set of QUIC configurations.
    fn read_quic(&self, index: u32) -> QuicSetEntry;
    /// A line of server IDs.
    fn read_servers(&self, line: u32) -> ServerLine;
    /// All entries of all lists of clients.
    fn read_sources(&self) -> Vec<SourceEntry>;
}

/// Tables that no agent of this version can have left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the tables in the kernel are damaged: {0}. Take the dataplane away with `lb stop --detach`, then start again: \
     connections that are open now may break"
)]
pub struct AdoptError(#[from] pub Damage);

/// What is wrong with tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Neither half of a service table is in use.
    #[error("half {0} of a service table is said to be in use, and there are 0 and 1")]
    Half(u32),
    /// A key that look-ups do not come by, or find elsewhere first.
    #[error("line {0} of a service table holds a key that is not looked for there")]
    Astray(u32),
    /// A key that no packet can have.
    #[error("a key of {0} leads to service number {1}, with protocol {2}")]
    Key(IpAddr, u32, u8),
    /// A number without a name.
    #[error("keys lead to service number {0}, of which nothing is noted")]
    Nameless(u32),
    /// Two numbers with one name.
    #[error("service {0} has two numbers, {1} and another one")]
    Twice(ServiceName, u32),
    /// Keys lead somewhere else than it was noted.
    #[error("keys of service {0} lead to cells that are not known to be its own")]
    Place(ServiceName),
    /// Cells outside the tables, or of two services.
    #[error("cells of service {0} are outside the tables, or another service's too")]
    Overlap(ServiceName),
    /// A set of QUIC configurations that cannot be where it is said to be.
    #[error("the QUIC configurations of service number {0} are outside the tables, or another service's too")]
    Routing(u32),
    /// A slot that leads to nobody.
    #[error("slot {1} of service {0} leads to target {2}, which is nobody's")]
    Slot(ServiceName, usize, u32),
}

impl Layout {
    /// The layout that `memory` shows, which was made for flows hashed under `seed`. The agent that kept it is dead.
    /// The first plan from it brings everything to the desired state; before that nothing is to be swept or released.
    ///
    /// # Errors
    /// When the tables are damaged.
    pub fn adopt(
        capacity: Capacity,
        seed: u64,
        memory: &mut impl ReadBack,
        now: Instant,
    ) -> Result<Self, AdoptError> {
        // What nothing leads to by now is free then, whenever it was given up.
        memory.wait_for_packets();
        Ok(Self::read(capacity, seed, memory, now)?)
    }

    fn read(capacity: Capacity, seed: u64, memory: &impl ReadBack, now: Instant) -> Result<Self, Damage> {
        let mut layout = Self::new(capacity, seed);
        layout.control = memory.read_control();
        if let Some(half) = layout.control.halves.iter().find(|half| **half > 1) {
            return Err(Damage::Half(*half));
        }
        let bits = capacity.service_bits();
        let index = |v6| layout.control.index(v6, bits);
        layout.keys4 = keys(index(false), |line| memory.read_services4(line))?;
        layout.keys4.sort_by_key(|(key, _)| key.0);
        layout.keys6 = keys(index(true), |line| memory.read_services6(line))?;
        layout.keys6.sort_by_key(|(key, _)| key.0);
        layout.read_records(memory);
        for (number, entries) in layout.entries()? {
            layout.read_pool(memory, number, &entries, now)?;
        }
        let placed: HashSet<u32> = layout.placed.values().map(|placed| placed.number).collect();
        layout.options = OptionsTable::read(
            (0..layout.numbers.capacity()).map(|number| (number, memory.read_options(number))),
            memory.read_sources(),
            |number| placed.contains(&number),
        );
        for placed in layout.placed.values() {
            let options = memory.read_options(placed.number);
            if !layout
                .routing
                .read(placed.number, &options, &placed.targets, memory)?
            {
                layout
                    .astray
                    .push((placed.number, OptionsEntry { quic: 0, ..options }));
            }
        }
        let used: Vec<u32> = layout.records.pools.keys().copied().collect();
        for number in used {
            // Flows may name those that no key leads to any more.
            if layout.numbers.reserve(&(number..number + 1)) {
                layout.retired_numbers.push(RetiredNumber { at: now, number });
            }
        }
        layout.recalled = true;
        layout.sweep_is_due = true;
        Ok(layout)
    }

    fn read_records(&mut self, memory: &impl ReadBack) {
        let serials = (0..self.targets.capacity()).map(|index| memory.read_cell(index).serial);
        self.records.serial = serials.max().unwrap_or(0);
        for number in 0..self.numbers.capacity() {
            let record = memory.read_pool(number);
            if record.used != 0 {
                let newest = record.locations.iter().map(|location| location.serial).max();
                self.records.serial = self.records.serial.max(newest.unwrap_or(0));
                self.records.pools.insert(number, record);
            }
        }
        // Far from the end, whatever was read.
        self.records.serial = self.records.serial.min(u64::MAX / 2);
    }

    /// The keys that lead to each pool.
    fn entries(&self) -> Result<BTreeMap<u32, Vec<KeyEntry>>, Damage> {
        let mut entries: BTreeMap<u32, Vec<KeyEntry>> = BTreeMap::new();
        for entry in self
            .keys4
            .iter()
            .map(KeyEntry::of4)
            .chain(self.keys6.iter().map(KeyEntry::of6))
        {
            let meaning = entry.selector.meaning();
            if matches!(meaning, Some(Meaning::Vip { .. })) {
                continue;
            }
            let number = entry.to.number();
            let known = !ServiceFlags::speaks(entry.selector.protocol()).is_empty() && meaning.is_some();
            if !known || number >= self.numbers.capacity() {
                return Err(Damage::Key(entry.address, number, entry.selector.protocol()));
            }
            entries.entry(number).or_default().push(entry);
        }
        Ok(entries)
    }

    /// Takes in the pool that those keys lead to.
    fn read_pool(
        &mut self,
        memory: &impl ReadBack,
        number: u32,
        entries: &[KeyEntry],
        now: Instant,
    ) -> Result<(), Damage> {
        let record = self.records.pools.get(&number).ok_or(Damage::Nameless(number))?;
        let key = record::key_of(record).ok_or(Damage::Nameless(number))?;
        if self.placed.contains_key(&key) {
            return Err(Damage::Twice(key.service, number));
        }
        let locations = locations(record, entries).ok_or_else(|| Damage::Place(key.service.clone()))?;
        for location in &locations {
            self.reserve(location)
                .ok_or_else(|| Damage::Overlap(key.service.clone()))?;
        }
        let Some((location, others)) = locations.split_last() else {
            return Err(Damage::Place(key.service));
        };
        for location in others {
            let (targets, slot_lines) = (targets(location), slot_lines(location));
            self.retired.push(Retired {
                at: now,
                targets,
                slot_lines,
            });
        }
        let found: Vec<_> = targets(location)
            .map(|index| record::read(&memory.read_cell(index), number, TargetCell::read(memory, index)))
            .collect();
        let cells = Cells::new(&found, now);
        let slots = slots(memory, location, &cells, &key, now)?;
        let recovered = RecoveredLocation {
            number,
            targets: targets(location),
            slot_lines: slot_lines(location),
        };
        let placed = recall::placed(key.clone(), match_key(entries, location), recovered, cells, slots);
        // Numbers are distinct here.
        self.numbers.reserve(&(number..number + 1));
        self.placed.insert(key, placed.into());
        Ok(())
    }

    /// Takes the cells of a place; `None` if they are not there to be taken.
    fn reserve(&mut self, location: &PoolLocation) -> Option<()> {
        let possible = location.slots.is_power_of_two()
            && (SLOTS_PER_LINE..=crate::desired::Service::MAX_SLOTS).contains(&location.slots)
            && location.targets <= u32::from(Slot::NONE.0)
            && location.target.checked_add(location.targets).is_some()
            && location
                .slot_line
                .checked_add(location.slots / SLOTS_PER_LINE)
                .is_some();
        (possible
            && self.targets.reserve(&targets(location))
            && self.slot_lines.reserve(&slot_lines(location)))
        .then_some(())
    }

    /// Whether this was read back and no plan was made since.
    pub fn is_recovered(&self) -> bool {
        self.recalled
    }

    /// The pools as they are. Where the first plan after [`Layout::adopt`] finds no room, a plan for these comes before
    /// it: that leads all packets to one place for each pool, so that the others can be released.
    pub fn present(&self) -> Vec<Pool> {
        self.placed.values().map(|placed| placed.pool.clone()).collect()
    }
}
/// All keys of a half; each must be where it is looked for.
fn keys<K, const N: usize, const SPARE: usize>(
    index: TableIndex,
    line: impl Fn(u32) -> ServiceLine<K, N, SPARE>,
) -> Result<Entries<K>, Damage>
where
    K: ServiceKey + Default,
{
    let base = index.base();
    let lines: Vec<_> = (0..2 << index.bits).map(|i| line(base + i)).collect();
    let looked_for = |key: &K, at: usize| {
        let mut next = index.line(key).wrapping_sub(base) as usize;
        for _ in 0..MAX_CHAIN {
            let Some(line) = lines.get(next) else { return false };
            if line.keys.contains(key) {
                return next == at;
            }
            if line.next == 0 {
                return false;
            }
            next = line.next.wrapping_sub(base) as usize;
        }
        false
    };
    let mut entries = Entries::new();
    for (at, line) in lines.iter().enumerate() {
        for (i, (key, service)) in line.keys.iter().zip(&line.services).enumerate() {
            if *key == K::default() {
                continue;
            }
            if line.keys[..i].contains(key) || !looked_for(key, at) {
                return Err(Damage::Astray(base + at as u32));
            }
            entries.push((*key, *service));
        }
    }
    Ok(entries)
}
/// The slots at a place, each of which leads to somebody of `cells`.
fn slots(
    memory: &impl ReadBack,
    location: &PoolLocation,
    cells: &Cells,
    key: &PoolKey,
    now: Instant,
) -> Result<super::slots::SlotTable, Damage> {
    let current: Vec<Slot> = slot_lines(location)
        .flat_map(|line| memory.read_slots(line).0)
        .collect();
    let previous: Vec<Slot> = slot_lines(location)
        .flat_map(|line| memory.read_previous(line).0)
        .collect();
    for (i, (slot, before)) in current.iter().zip(&previous).enumerate() {
        // A home that is gone is no damage: nobody waits for it.
        let asked = slot.is_migrating() && !before.is_lent();
        let before = if asked { before.owner() } else { None };
        for owner in [slot.owner(), before].into_iter().flatten() {
            if cells.owner(owner).is_none() {
                return Err(Damage::Slot(key.service.clone(), i, owner));
            }
        }
    }
    Ok(recall::slot_table(current.into(), previous.into(), cells, now))
}
