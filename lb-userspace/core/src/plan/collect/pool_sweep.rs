//! The sweep of one pool's flows and slots.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use lb_common::abi::{FlowKey, FlowState, FlowValue, ServiceFlags, Slot};

use super::flow_time::FlowTime;
use crate::desired::{BackendId, Protocol};
use crate::plan::{
    layout::{
        BackendRef,
        placed_pool::{Cell, Parked, PlacedPool},
        pool_writes::PoolWrites,
    },
    pools::{pool::FlowFate, slots::MigratingSlot},
};

/// How long an entry stays at most after a FIN and the last packet, or for the window if that is longer. The client has
/// closed; the backend may still answer, and its FIN does not pass here. So most of these flows are over, and some are
/// not. This is the least that RFC 5382 (REQ-5) allows for both.
const CLOSING: Duration = Duration::from_secs(240);

/// How long an entry stays after a RST: retransmissions are over by then.
const RESET: Duration = Duration::from_secs(10);

/// The sweep of one pool.
pub(super) struct PoolSweep<'a> {
    pub(super) placed: &'a PlacedPool,
    /// By cell: what becomes of the flows of its backend.
    flows: Vec<FlowFate>,
    /// By slot: whether it is migrating and its window has been over for so long that no packet on its way saw it open.
    /// Entries of the current owner then say nothing new.
    settled: Vec<bool>,
    /// By slot: whether a backend other than the current owner has flows here.
    foreign: Vec<bool>,
    /// By cell: entries found.
    pub(super) entries: Vec<u64>,
    limits: Limits,
    /// By cell: whether it was given up so long ago that no packet is on its way there.
    cold_cells: Vec<bool>,
    /// Backends that are out and wanted back.
    away: HashSet<BackendId>,
    /// The flows of these backends that were found.
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
            // A living flow may have sent no more than one packet in the window.
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

impl<'a> PoolSweep<'a> {
    /// A sweep that has seen no entry yet. `cold` tells whether what ended or was given up at a time has rested.
    pub(super) fn new(placed: &'a PlacedPool, time: FlowTime, cold: impl Fn(Instant) -> bool) -> Self {
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
    pub(super) fn visit(&mut self, key: FlowKey, value: FlowValue, clock: u32) -> Option<FlowValue> {
        let owner = self.placed.present_cell(value.owner());
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
        // A datagram does not say whether it begins another flow by the same ends.
        let tells = self.placed.pool.service.protocol != Protocol::Udp;
        if tells && self.away.contains(id) && self.placed.awaits(&parked) {
            self.parked.push(parked);
        }
    }

    /// How many entries each backend has.
    pub(super) fn flows(&self) -> impl Iterator<Item = (BackendRef, u64)> {
        self.placed
            .owned()
            .map(|(local, id, _)| (self.placed.backend_ref(id), self.entries[local as usize]))
    }

    /// The pool as it is to be; `None` if it stays as it is.
    pub(super) fn finish(self, clock: u32, now: Instant, writes: &mut PoolWrites) -> Option<PlacedPool> {
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
        // Where the first packet of a flow says that it is new, unknown flows of a backend that drains still find it. Of
        // UDP, new flows would find it, too.
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
        // A renamed cell is forgotten when the cell is free.
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
