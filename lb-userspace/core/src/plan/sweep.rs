//! Sweeping: windows end, flows that are over leave the flow table, slots become safe, and what was given up is free
//! again once no flow names it.
//!
//! Invariant: an entry is dropped only if its flow goes to the same backend without it, or if it has no living backend,
//! or if it has been silent for longer than its service promises to remember.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::abi::{FlowKey, FlowState, FlowValue, ServiceFlags, Slot};

use super::{
    layout::{BackendRef, Layout},
    memory::Memory,
    placed_pool::{COOL_DOWN, Cell, Parked, PlacedPool, Writes},
    record,
    slots::{FlowFate, MigratingSlot},
    write::Write,
};
use crate::desired::{BackendId, Protocol};

/// How long an entry stays at most after a FIN and the last packet, or for the window if that is longer. The client is
/// done, its backend may be busy with the answer, and nobody here hears that it has closed, too. So most of these flows
/// are over, and some are not: the least that RFC 5382 (REQ-5) allows for both.
const CLOSING: Duration = Duration::from_secs(240);
/// How long an entry stays after a RST: retransmissions are over by then.
const RESET: Duration = Duration::from_secs(10);

/// The flow clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTime {
    /// What the dataplane writes beside flows that it sees now.
    pub now: u32,
    /// What one unit of it is worth.
    pub unit: Duration,
}

impl FlowTime {
    /// The most units that something may have been silent for which is remembered for `span`. One more unit, since
    /// entries are up to a unit older than they say, and a second, since they are renewed at most that often.
    pub(super) fn units(&self, span: Duration) -> u32 {
        let units = (span + Duration::from_secs(1)).as_nanos() / self.unit.as_nanos().max(1) + 1;
        u32::try_from(units).unwrap_or(u32::MAX / 2)
    }
}

/// What a sweep has found. The flow table itself is swept by then.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The layout once the writes are done.
    pub layout: Layout,
    /// The writes, in order; they need no [`Write::Publish`].
    pub writes: Vec<Write>,
    /// Entries that are left.
    pub live: u64,
    /// Entries that were dropped.
    pub dropped: u64,
    /// Entries of each backend.
    pub flows: HashMap<BackendRef, u64>,
}

impl Layout {
    /// Whether there is anything that a sweep would look after.
    pub fn wants_sweep(&self) -> bool {
        let wants = |placed: &Arc<PlacedPool>| {
            !placed.slots.migrating.is_empty()
                || !placed.parked.is_empty()
                || placed.slots.loans_run()
                || !placed.renamed.is_empty()
                || placed.pool.flags.intersects(ServiceFlags::TRACK_ALWAYS)
                || placed.cells.iter().any(|cell| matches!(cell, Cell::Cooling(_)))
        };
        // What was read back is not understood before it was planned.
        !self.recalled
            && (self.sweep_is_due || !self.retired_numbers.is_empty() || self.placed.values().any(wants))
    }

    /// Whether flows are cut or named otherwise since the last sweep: until the next one they go where they went.
    pub fn sweep_is_due(&self) -> bool {
        self.sweep_is_due
    }

    /// Ends windows and sweeps the flow table.
    pub fn sweep(&self, memory: &mut (impl Memory + ?Sized), time: FlowTime, now: Instant) -> Sweep {
        self.swept(memory, time, now, COOL_DOWN)
    }

    /// The same after [`Write::Wait`] has been carried out: nothing that was given up needs to rest any longer.
    pub fn sweep_after_wait(
        &self,
        memory: &mut (impl Memory + ?Sized),
        time: FlowTime,
        now: Instant,
    ) -> Sweep {
        self.swept(memory, time, now, Duration::ZERO)
    }

    fn swept(
        &self,
        memory: &mut (impl Memory + ?Sized),
        time: FlowTime,
        now: Instant,
        cool_down: Duration,
    ) -> Sweep {
        let cold = |at: Instant| !self.recalled && now.saturating_duration_since(at) >= cool_down;
        let mut rounds: HashMap<u32, Round<'_>> = self
            .placed
            .values()
            .map(|placed| (placed.number, Round::new(placed, time, cold)))
            .collect();
        let mut dropped = 0;
        memory.visit_flows(&mut |key, value| {
            let kept = rounds
                .get_mut(&value.service())
                .and_then(|round| round.visit(key, value, time.now));
            dropped += u64::from(kept.is_none());
            let next = kept.unwrap_or(FlowValue::FREE);
            (next != value).then_some(next)
        });
        let mut layout = self.clone();
        let mut writes = Writes::default();
        let (mut live, mut flows) = (0, HashMap::new());
        let mut notes = Vec::new();
        for round in rounds.into_values() {
            live += round.entries.iter().sum::<u64>();
            flows.extend(round.flows());
            let placed = round.placed;
            if let Some(next) = round.finish(time.now, now, &mut writes) {
                notes.extend(record::freed_cells(placed, &next));
                layout.placed.insert(next.pool.key.clone(), Arc::new(next));
            }
        }
        layout.retired_numbers.retain(|retired| {
            let free = cold(retired.at);
            if free {
                layout.numbers.give(retired.number..retired.number + 1);
                notes.push(layout.records.forget(retired.number));
            }
            !free
        });
        layout.sweep_is_due = false;
        Sweep {
            layout,
            writes: [writes.previous, writes.slots, notes].concat(),
            live,
            dropped,
            flows,
        }
    }
}

/// A sweep of one pool.
struct Round<'a> {
    placed: &'a PlacedPool,
    flows: Vec<FlowFate>,
    /// By slot: unsafe, and over for so long that no packet remembers what was before, so that entries of the current owner say nothing new.
    settled: Vec<bool>,
    /// By slot: somebody but the current owner has flows here.
    foreign: Vec<bool>,
    /// By cell: entries found.
    entries: Vec<u64>,
    limits: Limits,
    cold_cells: Vec<bool>,
    /// Backends that are out and wanted back.
    away: HashSet<BackendId>,
    /// Their flows.
    parked: Vec<Parked>,
}

/// The most units of the flow clock that an entry may be silent for, by its state.
struct Limits {
    embryonic: u32,
    established: u32,
    closing: u32,
    reset: u32,
}

impl Limits {
    fn of(placed: &PlacedPool, time: FlowTime) -> Self {
        let service = &placed.pool.service;
        let units = |span| time.units(span).min(FlowValue::CLOCK_MASK / 2);
        let window = service.window_in_use();
        let idle = service.idle_in_use().max(window);
        Self {
            // One packet may be all that a living flow has sent in the window.
            embryonic: units(window),
            established: units(idle),
            closing: units(idle.min(CLOSING.max(window))),
            reset: units(RESET),
        }
    }

    fn of_state(&self, state: FlowState) -> u32 {
        match state {
            FlowState::Embryonic => self.embryonic,
            FlowState::Established => self.established,
            FlowState::Closing => self.closing,
            FlowState::Reset => self.reset,
        }
    }
}

impl<'a> Round<'a> {
    fn new(placed: &'a PlacedPool, time: FlowTime, cold: impl Fn(Instant) -> bool) -> Self {
        let slots = placed.slots.len();
        let mut settled = vec![false; slots];
        for entry in placed.slots.migrating.iter().filter(|entry| cold(entry.since)) {
            settled[entry.slot as usize] = placed.slots.is_over(entry.slot);
        }
        Self {
            flows: placed.flows_by_cell(),
            settled,
            foreign: vec![false; slots],
            entries: vec![0; placed.cells.len()],
            limits: Limits::of(placed, time),
            cold_cells: placed
                .cells
                .iter()
                .map(|cell| matches!(cell, Cell::Cooling(at) if cold(*at)))
                .collect(),
            away: placed
                .pool
                .members
                .iter()
                .filter(|member| member.away > 0)
                .map(|member| member.id)
                .collect(),
            parked: Vec::new(),
            placed,
        }
    }

    /// The entry as it is to be; `None` to drop it.
    fn visit(&mut self, key: FlowKey, value: FlowValue, clock: u32) -> Option<FlowValue> {
        let named = value.owner();
        let renamed = self.placed.renamed.iter().find(|(from, _)| *from == named);
        let owner = renamed.map_or(named, |(_, to)| *to);
        if value.age(clock) > self.limits.of_state(value.state()?) {
            return None;
        }
        if self.flows.get(owner as usize).copied().unwrap_or_default() == FlowFate::Cut {
            self.park(owner, key, value);
            return None;
        }
        let slot = key.slot((self.placed.slots.len() - 1) as u16) as usize;
        let current: Slot = self.placed.slots.current[slot];
        let own = current.owner() == Some(owner);
        let always = self.placed.pool.flags.intersects(ServiceFlags::TRACK_ALWAYS);
        let says_nothing_new = !current.is_migrating() || own && self.settled[slot];
        if says_nothing_new && !always {
            return None;
        }
        self.foreign[slot] |= !own;
        self.entries[owner as usize] += 1;
        Some(value.with_owner(owner))
    }

    /// Keeps a flow for a backend that may come back.
    fn park(&mut self, owner: u32, key: FlowKey, value: FlowValue) {
        let Some(Cell::Owned(id, _)) = self.placed.cells.get(owner as usize) else {
            return;
        };
        let parked = Parked { id: *id, key, value };
        // A datagram does not tell whether it begins another flow by the same ends.
        let tells = self.placed.pool.service.protocol != Protocol::Udp;
        if tells && self.away.contains(id) && self.placed.awaits(&parked) {
            self.parked.push(parked);
        }
    }

    fn flows(&self) -> impl Iterator<Item = (BackendRef, u64)> {
        self.placed.owned().map(|(local, id, _)| {
            let backend_ref = BackendRef {
                service: self.placed.pool.key.service.clone(),
                backend: id,
            };
            (backend_ref, self.entries[local as usize])
        })
    }

    /// The pool as it is to be, if that is not as it is.
    fn finish(self, clock: u32, now: Instant, writes: &mut Writes) -> Option<PlacedPool> {
        let Self {
            placed,
            flows,
            settled,
            foreign,
            cold_cells,
            limits,
            parked,
            ..
        } = self;
        let clean = |entry: &MigratingSlot| {
            let slot = entry.slot as usize;
            settled[slot] && !foreign[slot]
        };
        let window = placed.pool.service.window_in_use();
        let is_over = |since| now.saturating_duration_since(since) >= window;
        // Flows that are silent for longer find a backend that drains as long as new ones do not: of UDP, all unknown
        // flows would.
        let tells_new = placed.pool.service.protocol != Protocol::Udp;
        let mut next = placed.slots.with_loans_ended(now, is_over);
        next = next
            .as_ref()
            .unwrap_or(&placed.slots)
            .with_flags_cleared(clean)
            .or(next);
        next = next
            .as_ref()
            .unwrap_or(&placed.slots)
            .with_windows_ended(now, |owner, since| {
                let waits = tells_new && flows.get(owner as usize) == Some(&FlowFate::Drain);
                !waits && is_over(since)
            })
            .or(next);
        // A name is forgotten with the cell that it stands for.
        let frees = cold_cells.iter().any(|cold| *cold);
        let waits = |parked: &&Parked| {
            let limit = parked.value.state().map_or(0, |state| limits.of_state(state));
            parked.value.age(clock) <= limit
        };
        let parked: Vec<Parked> = placed
            .parked
            .iter()
            .filter(waits)
            .copied()
            .chain(parked)
            .collect();
        if next.is_none() && !frees && parked == *placed.parked {
            return None;
        }
        let mut changed = placed.clone();
        if let Some(next) = next {
            writes.add_slots(placed.slot_lines.start, &placed.slots, &next);
            changed.slots = next;
        }
        let awaited = parked.into_iter().filter(|parked| changed.awaits(parked));
        changed.parked = awaited.collect();
        for (cell, _) in changed
            .cells
            .iter_mut()
            .zip(&cold_cells)
            .filter(|(_, cold)| **cold)
        {
            *cell = Cell::Free;
        }
        let cells = &changed.cells;
        changed
            .renamed
            .retain(|(from, _)| cells[*from as usize] != Cell::Free);
        Some(changed)
    }
}
