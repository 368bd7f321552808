//! Which cells packets can reach, and which they may still be reading although they were given up.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use lb_common::{
    abi::{Meaning, SLOTS_PER_LINE, Selector, ServerIdEntry, ServiceEntry, ServiceKey, ServiceLine},
    pipeline::{FlowTables, QuicTables, ServiceTables},
};

use crate::plan::{InMemory, ReadBack, Write};

const COOL_DOWN: Duration = Duration::from_secs(1);

/// What the service tables lead to.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Target cells.
    targets: HashSet<u32>,
    /// Slot lines.
    lines: HashSet<u32>,
    /// Slot tables: first line and number of slots.
    tables: HashSet<(u32, usize)>,
    /// Lists of clients.
    lists: HashSet<u32>,
    /// Sets of QUIC configurations.
    sets: HashSet<u32>,
    /// Lines of server IDs.
    servers: HashSet<u32>,
}

impl Reach {
    pub(super) fn of(memory: &InMemory) -> Self {
        let mut reach = Self::default();
        let half = |v6: bool| {
            let index = memory.service_index(v6);
            index.base()..index.base() + (2 << index.bits)
        };
        for line in half(false) {
            let line = memory.service_line4(line).unwrap();
            reach.add_line(memory, line, |key| Selector((key.0 >> 32) as u32));
        }
        for line in half(true) {
            let line = memory.service_line6(line).unwrap();
            reach.add_line(memory, line, |key| Selector(key.0[2] as u32));
        }
        reach
    }

    fn add_line<K: ServiceKey + Default, const N: usize, const SPARE: usize>(
        &mut self,
        memory: &InMemory,
        line: &ServiceLine<K, N, SPARE>,
        selector: impl Fn(&K) -> Selector,
    ) {
        for (key, service) in line.keys.iter().zip(&line.services) {
            let selector = selector(key);
            match selector.meaning() {
                _ if *key == K::default() => {}
                Some(Meaning::FromBackend { .. }) => {
                    self.targets.insert(service.target_base);
                }
                Some(Meaning::Vip { .. }) => {}
                Some(Meaning::ToService { .. } | Meaning::Block { .. } | Meaning::Portless { .. }) => {
                    self.add_table(memory, service);
                }
                None => panic!("{selector:?} means nothing"),
            }
        }
    }

    fn add_table(&mut self, memory: &InMemory, service: &ServiceEntry) {
        let slots = usize::from(service.slot_mask) + 1;
        self.lists.insert(list(memory, service.number()));
        self.add_set(memory, service.number());
        self.tables.insert((service.slot_line, slots));
        for line in 0..slots as u32 / SLOTS_PER_LINE {
            self.lines.insert(service.slot_line + line);
            let slots = memory.slots(service.slot_line + line).unwrap().0;
            let owners = slots.iter().filter_map(|slot| slot.owner());
            self.targets
                .extend(owners.map(|owner| service.target_base + owner));
            let previous = memory.previous[(service.slot_line + line) as usize].0;
            let asked = slots.iter().zip(previous).filter(|(slot, _)| slot.is_migrating());
            let owners = asked.filter(|(_, previous)| !previous.is_lent());
            let owners = owners.filter_map(|(_, previous)| previous.owner());
            self.targets
                .extend(owners.map(|owner| service.target_base + owner));
        }
    }
}

impl Reach {
    fn add_set(&mut self, memory: &InMemory, number: u32) {
        let Some(index) = memory.options(number).expect("a line").quic.checked_sub(1) else {
            return;
        };
        let table = memory.quic(index).expect("a set").servers;
        self.sets.insert(index);
        for line in table.first..=table.first + table.mask {
            self.servers.insert(line);
            let line = memory.read_servers(line);
            let named = line.ids.iter().zip(line.targets);
            let named = named.filter(|(id, _)| **id != ServerIdEntry::NONE);
            self.targets.extend(named.map(|(_, target)| target));
        }
    }
}

/// The list of clients of the service of that number.
fn list(memory: &InMemory, number: u32) -> u32 {
    memory.options(number).expect("a line").source_list
}

/// When cells were given up.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    targets: HashMap<u32, Instant>,
    lines: HashMap<u32, Instant>,
    sets: HashMap<u32, Instant>,
    servers: HashMap<u32, Instant>,
    switched: Option<Instant>,
    /// Lists of clients that packets may be reading.
    lists: HashSet<u32>,
}

impl Ledger {
    /// Every packet that was on its way has left.
    pub(super) fn wait(&mut self) {
        *self = Self::default();
    }

    /// Whether a write leaves alone what packets may be reading.
    pub(super) fn check(&mut self, write: &Write, memory: &InMemory, now: Instant) {
        let hot = |at: Option<&Instant>| at.is_some_and(|at| now.duration_since(*at) < COOL_DOWN);
        let reach = Reach::of(memory);
        let active = |v6: bool, line: u32| line == memory.service_index(v6).base();
        match write {
            Write::Wait => self.wait(),
            Write::Target { index, .. } => {
                assert!(!reach.targets.contains(index), "target {index} is in use");
                assert!(!hot(self.targets.get(index)), "target {index} was in use of late");
            }
            Write::Slots { line, slots } | Write::Previous { line, slots }
                if reach.tables.contains(&(*line, slots.len())) => {}
            Write::Slots { line, slots } | Write::Previous { line, slots } => {
                for line in *line..line + slots.len() as u32 / SLOTS_PER_LINE {
                    assert!(!reach.lines.contains(&line), "slot line {line} is in use");
                    assert!(!hot(self.lines.get(&line)), "slot line {line} was in use of late");
                }
            }
            Write::Quic { index, .. } => {
                assert!(!reach.sets.contains(index), "set {index} is in use");
                assert!(!hot(self.sets.get(index)), "set {index} was in use of late");
            }
            Write::Servers { line, lines } => {
                for line in *line..line + lines.len() as u32 {
                    assert!(!reach.servers.contains(&line), "line {line} is in use");
                    assert!(!hot(self.servers.get(&line)), "line {line} was in use of late");
                }
            }
            Write::Services4 { line, .. } => {
                assert!(!active(false, *line), "the half is in use");
                assert!(!hot(self.switched.as_ref()), "the half was in use of late");
            }
            Write::Services6 { line, .. } => {
                assert!(!active(true, *line), "the half is in use");
                assert!(!hot(self.switched.as_ref()), "the half was in use of late");
            }
            Write::Sources(entries) | Write::SourcesGone(entries) => {
                let used = |list: &u32| reach.lists.contains(list) || self.lists.contains(list);
                assert!(
                    entries.iter().all(|entry| !used(&entry.key.list())),
                    "a list is in use"
                );
            }
            Write::Options { number, .. } => {
                self.lists.insert(list(memory, u32::from(*number)));
            }
            Write::Publish(_) => self.lists.extend(reach.lists),
            Write::Pool { .. } | Write::Cell { .. } | Write::Macs { .. } | Write::Flow { .. } => {}
        }
    }

    /// Notes what a plan gave up.
    pub(super) fn settle(&mut self, before: &Reach, after: &Reach, now: Instant) {
        let gone = before.targets.difference(&after.targets);
        self.targets.extend(gone.map(|cell| (*cell, now)));
        let gone = before.lines.difference(&after.lines);
        self.lines.extend(gone.map(|line| (*line, now)));
        let gone = before.sets.difference(&after.sets);
        self.sets.extend(gone.map(|index| (*index, now)));
        let gone = before.servers.difference(&after.servers);
        self.servers.extend(gone.map(|line| (*line, now)));
        self.sets.retain(|index, _| !after.sets.contains(index));
        self.servers.retain(|line, _| !after.servers.contains(line));
        self.targets.retain(|cell, _| !after.targets.contains(cell));
        self.lines.retain(|line, _| !after.lines.contains(line));
    }

    /// Notes that packets were sent to other halves of the service tables.
    pub(super) fn switch(&mut self, now: Instant) {
        self.switched = Some(now);
    }
}
