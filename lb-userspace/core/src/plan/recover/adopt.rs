//! Taking over tables that an agent left, from the tables alone.
//!
//! Invariant: whichever write was the last one before the agent died, the layout that is read back explains all that
//! packets can reach.

use std::{
    collections::{BTreeMap, HashSet},
    time::Instant,
};

use lb_common::abi::{
    MAX_CHAIN, Meaning, OptionsEntry, PoolLocation, ServiceFlags, ServiceKey, ServiceLine, Slot, TableIndex,
};

use super::{
    damage::{AdoptError, Damage},
    key_entries::{KeyEntry, locations, match_key},
    recovered_pool::{self, Cells, RecoveredLocation},
};
use crate::plan::{
    layout::{
        Layout,
        keys::Entries,
        options::OptionsTable,
        records,
        space::{slot_lines, targets},
    },
    pools::{
        pool::{Pool, PoolKey},
        slots::SlotTable,
    },
    tables::{capacity::Capacity, read_back::ReadBack, target::TargetCell},
};

impl Layout {
    /// The layout that `memory` shows, which was made for flows hashed under `seed`. The agent that kept these tables is
    /// dead. The first plan brings everything to the desired state; nothing is swept or released before.
    ///
    /// # Errors
    /// When the tables are damaged.
    pub fn adopt(
        capacity: Capacity,
        seed: u64,
        memory: &mut impl ReadBack,
        now: Instant,
    ) -> Result<Self, AdoptError> {
        // No packet is then on its way to what nothing leads to by now.
        memory.wait_for_packets();
        Ok(read(capacity, seed, memory, now)?)
    }

    /// Whether this layout was read back and no plan has been made since.
    pub fn is_recovered(&self) -> bool {
        self.is_recovered
    }

    /// The pools as they are. Where the first plan after [`Layout::adopt`] finds no room, a plan for these pools comes
    /// before it: that plan leads all packets to one location for each pool, so that the others can be released.
    pub fn present(&self) -> Vec<Pool> {
        self.placed_pools
            .values()
            .map(|placed| placed.pool.clone())
            .collect()
    }
}

/// The layout that `memory` shows.
fn read(capacity: Capacity, seed: u64, memory: &impl ReadBack, now: Instant) -> Result<Layout, Damage> {
    let mut layout = Layout::new(capacity, seed);
    let published = &mut layout.published;
    published.control = memory.read_control();
    if let Some(half) = published.control.halves.iter().find(|half| **half > 1) {
        return Err(Damage::Half(*half));
    }
    let bits = capacity.service_bits();
    let index = |v6| published.control.index(v6, bits);
    let mut keys4 = keys(index(false), |line| memory.read_services4(line))?;
    keys4.sort_by_key(|(key, _)| key.0);
    let mut keys6 = keys(index(true), |line| memory.read_services6(line))?;
    keys6.sort_by_key(|(key, _)| key.0);
    (published.keys4, published.keys6) = (keys4.into(), keys6.into());
    read_records(&mut layout, memory);
    for (number, entries) in entries(&layout)? {
        read_pool(&mut layout, memory, number, &entries, now)?;
    }
    let placed: HashSet<u32> = layout.placed_pools.values().map(|placed| placed.number).collect();
    layout.options = OptionsTable::read(
        (0..layout.space.numbers()).map(|number| (number, memory.read_options(number))),
        memory.read_sources(),
        |number| placed.contains(&number),
    );
    for placed in layout.placed_pools.values() {
        let options = memory.read_options(placed.number);
        let names_own_targets = layout
            .quic_sets
            .read(placed.number, &options, &placed.targets, memory)
            .ok_or(Damage::Routing(placed.number))?;
        if !names_own_targets {
            let without = OptionsEntry { quic: 0, ..options };
            layout.options_without_server_ids.push((placed.number, without));
        }
    }
    let used: Vec<u32> = layout.records.pools.keys().copied().collect();
    for number in used {
        // Flows may name numbers that no key leads to any more.
        if layout.space.reserve_number(number) {
            layout.space.retire_number(number, now);
        }
    }
    layout.is_recovered = true;
    layout.sweep_is_due = true;
    Ok(layout)
}

/// Takes in the records.
fn read_records(layout: &mut Layout, memory: &impl ReadBack) {
    let records = &mut layout.records;
    let serials = (0..layout.space.target_cells()).map(|index| memory.read_cell(index).serial);
    records.serial = serials.max().unwrap_or(0);
    for number in 0..layout.space.numbers() {
        let record = memory.read_pool(number);
        if record.used != 0 {
            let newest = record.locations.iter().map(|location| location.serial).max();
            records.serial = records.serial.max(newest.unwrap_or(0));
            records.pools.insert(number, record);
        }
    }
    // Far from the end, whatever was read.
    records.serial = records.serial.min(u64::MAX / 2);
}

/// The keys that lead to each pool.
fn entries(layout: &Layout) -> Result<BTreeMap<u32, Vec<KeyEntry>>, Damage> {
    let mut entries: BTreeMap<u32, Vec<KeyEntry>> = BTreeMap::new();
    for entry in layout
        .published
        .keys4
        .iter()
        .map(KeyEntry::of4)
        .chain(layout.published.keys6.iter().map(KeyEntry::of6))
    {
        let meaning = entry.selector.meaning();
        if matches!(meaning, Some(Meaning::Vip { .. })) {
            continue;
        }
        let number = entry.to.number();
        let known = !ServiceFlags::speaks(entry.selector.protocol()).is_empty() && meaning.is_some();
        if !known || number >= layout.space.numbers() {
            return Err(Damage::Key(entry.address, number, entry.selector.protocol()));
        }
        entries.entry(number).or_default().push(entry);
    }
    Ok(entries)
}

/// Takes in the pool that those keys lead to.
fn read_pool(
    layout: &mut Layout,
    memory: &impl ReadBack,
    number: u32,
    entries: &[KeyEntry],
    now: Instant,
) -> Result<(), Damage> {
    let record = layout
        .records
        .pools
        .get(&number)
        .ok_or(Damage::Nameless(number))?;
    let key = records::key_of(record).ok_or(Damage::Nameless(number))?;
    if layout.placed_pools.contains_key(&key) {
        return Err(Damage::Twice(key.service, number));
    }
    let locations = locations(record, entries).ok_or_else(|| Damage::Place(key.service.clone()))?;
    for location in &locations {
        layout
            .space
            .reserve_cells(location)
            .ok_or_else(|| Damage::Overlap(key.service.clone()))?;
    }
    let Some((location, others)) = locations.split_last() else {
        return Err(Damage::Place(key.service));
    };
    for location in others {
        let (targets, slot_lines) = (targets(location), slot_lines(location));
        layout.space.retire_cells(targets, slot_lines, now);
    }
    let found: Vec<_> = targets(location)
        .map(|index| records::read(&memory.read_cell(index), number, TargetCell::read(memory, index)))
        .collect();
    let cells = Cells::new(&found, now);
    let slots = slots(memory, location, &cells, &key, now)?;
    let recovered = RecoveredLocation {
        number,
        targets: targets(location),
        slot_lines: slot_lines(location),
    };
    let placed =
        recovered_pool::placed_pool(key.clone(), match_key(entries, location), recovered, cells, slots);
    // Numbers are distinct here.
    layout.space.reserve_number(number);
    layout.placed_pools.insert(placed.into());
    Ok(())
}

/// All keys of a half. Each key must be where it is looked for.
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

/// The slots at a location. Each slot must lead to a backend in `cells`.
fn slots(
    memory: &impl ReadBack,
    location: &PoolLocation,
    cells: &Cells,
    key: &PoolKey,
    now: Instant,
) -> Result<SlotTable, Damage> {
    let current: Vec<Slot> = slot_lines(location)
        .flat_map(|line| memory.read_slots(line).0)
        .collect();
    let previous: Vec<Slot> = slot_lines(location)
        .flat_map(|line| memory.read_previous(line).0)
        .collect();
    for (i, (slot, before)) in current.iter().zip(&previous).enumerate() {
        // A home that is gone is no damage: no slot waits for it.
        let asked = slot.is_migrating() && !before.is_lent();
        let before = if asked { before.owner() } else { None };
        for owner in [slot.owner(), before].into_iter().flatten() {
            if cells.owner(owner).is_none() {
                return Err(Damage::Slot(key.service.clone(), i, owner));
            }
        }
    }
    Ok(recovered_pool::slot_table(
        current.into(),
        previous.into(),
        cells,
        now,
    ))
}
