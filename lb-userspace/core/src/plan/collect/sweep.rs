//! Sweeping the flow table: windows end, flows that are over leave, slots become stable, and what pools gave up is free
//! again once no flow names it.
//!
//! Invariant: an entry is dropped only if its flow goes to the same backend without it, or if it has no living backend,
//! or if it has been silent for longer than its service promises to remember.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::abi::{FlowValue, ServiceFlags};

use super::{flow_time::FlowTime, pool_sweep::PoolSweep};
use crate::plan::{
    layout::{
        BackendRef, Layout,
        placed_pool::{COOL_DOWN, Cell, PlacedPool},
        pool_writes::PoolWrites,
        records,
    },
    tables::{memory::Memory, write::Write},
};

/// What a sweep has found. The flow table itself is swept already.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The layout once the writes are done.
    pub layout: Layout,
    /// The writes, in order. They need no [`Write::Publish`].
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
        // A layout that was read back says nothing of flows before the first plan.
        !self.is_recovered
            && (self.sweep_is_due
                || self.space.has_retired_numbers()
                || self.placed_pools.values().any(wants))
    }

    /// Whether flows have been cut or named otherwise since the last sweep. They go where they went until the next sweep.
    pub fn sweep_is_due(&self) -> bool {
        self.sweep_is_due
    }

    /// Ends windows and sweeps the flow table.
    pub fn sweep(&self, memory: &mut (impl Memory + ?Sized), time: FlowTime, now: Instant) -> Sweep {
        self.swept(memory, time, now, COOL_DOWN, None)
    }

    /// Ends windows and sweeps the flow table, while `fullnat` flows are looked after by others, whose last whole look began at
    /// `looked`. What was given up rests until a look has seen that no such flow names it.
    pub fn sweep_beside_nat(
        &self,
        memory: &mut (impl Memory + ?Sized),
        time: FlowTime,
        now: Instant,
        looked: Instant,
    ) -> Sweep {
        self.swept(memory, time, now, COOL_DOWN, Some(looked))
    }

    /// Ends windows and sweeps the flow table after [`Write::Wait`] has been carried out. Nothing that was given up needs
    /// to rest any longer.
    pub fn sweep_after_wait(
        &self,
        memory: &mut (impl Memory + ?Sized),
        time: FlowTime,
        now: Instant,
    ) -> Sweep {
        self.swept(memory, time, now, Duration::ZERO, None)
    }

    fn swept(
        &self,
        memory: &mut (impl Memory + ?Sized),
        time: FlowTime,
        now: Instant,
        cool_down: Duration,
        looked: Option<Instant>,
    ) -> Sweep {
        let has_rested = |at: Instant, until: Instant| until.saturating_duration_since(at) >= cool_down;
        let cold = |at: Instant| {
            !self.is_recovered && has_rested(at, now) && looked.is_none_or(|looked| has_rested(at, looked))
        };
        let mut sweeps: HashMap<u32, PoolSweep<'_>> = self
            .placed_pools
            .values()
            .map(|placed| (placed.number, PoolSweep::new(placed, time, cold)))
            .collect();
        let mut dropped = 0;
        memory.visit_flows(&mut |key, value| {
            let kept = sweeps
                .get_mut(&value.service())
                .and_then(|sweep| sweep.visit(key, value, time.now));
            dropped += u64::from(kept.is_none());
            let next = kept.unwrap_or(FlowValue::FREE);
            (next != value).then_some(next)
        });
        let mut layout = self.clone();
        let mut writes = PoolWrites::default();
        let (mut live, mut flows) = (0, HashMap::new());
        let mut notes = Vec::new();
        for sweep in sweeps.into_values() {
            live += sweep.entries.iter().sum::<u64>();
            flows.extend(sweep.flows());
            let placed = sweep.placed;
            if let Some(next) = sweep.finish(time.now, now, &mut writes) {
                notes.extend(records::freed_cells(placed, &next));
                layout.placed_pools.insert(Arc::new(next));
            }
        }
        for number in layout.space.release_numbers(cold) {
            notes.push(layout.records.forget(number));
        }
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
