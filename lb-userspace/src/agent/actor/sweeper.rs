//! When the tables of flows are swept, and what was found there.
//!
//! Invariant: flows of a backend that is gone are cut as soon as the tables say so; all else can wait for its turn.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::dataplane::DataplaneSource;
use lb_core::plan::{BackendRef, FlowTime, Layout, Memory, Sweep, apply};

use crate::agent::{actor::Actor, nat_sweeper::NatLook};

/// From one sweep to the next, while there is anything to look after.
const PACE: Duration = Duration::from_secs(2);

/// What the last sweeps found.
#[derive(Debug, Default)]
pub(in crate::agent) struct Sweeper {
    /// When the last sweep of the flow table began.
    at: Option<Instant>,
    /// How long it took.
    took: Duration,
    /// Entries in the flow table.
    pub(in crate::agent) live: u64,
    /// Entries of each backend in the flow table; absent means none.
    flows: HashMap<BackendRef, u64>,
    /// What the last look at the table of `fullnat` flows found.
    pub(in crate::agent) nat: Arc<NatLook>,
    /// When a look was asked for last.
    nat_asked: Option<Instant>,
}

/// Whether a sweep that was begun `at`, and took that long, is to be followed by another one.
fn is_due(at: Option<Instant>, took: Duration, now: Instant) -> bool {
    // A full table takes its time: a tenth of one CPU at most is spent on it.
    let pace = PACE.max(took * 10);
    at.is_none_or(|at| now.saturating_duration_since(at) >= pace)
}

impl Sweeper {
    /// How long the last sweep of each table took, together.
    pub(in crate::agent) fn took(&self) -> Duration {
        self.took + self.nat.took
    }

    /// Carries out what a sweep of the flow table asks for, and keeps what it found.
    fn take(&mut self, sweep: Sweep, memory: &mut impl Memory, at: Instant) -> Layout {
        let Sweep {
            layout,
            writes,
            live,
            dropped,
            flows,
        } = sweep;
        apply(&writes, memory);
        self.at = Some(at);
        self.took = at.elapsed();
        self.live = live;
        self.flows = flows;
        log::debug!(
            "swept the flow table in {:?}: {live} flows, {dropped} dropped",
            self.took
        );
        layout
    }

    /// How many flows each backend has in both tables.
    fn all_flows(&self) -> HashMap<BackendRef, u64> {
        let mut all = self.flows.clone();
        for (backend_ref, flows) in &self.nat.flows {
            *all.entry(backend_ref.clone()).or_default() += flows;
        }
        all
    }
}

impl Actor {
    /// Sweeps what it is time to sweep.
    pub(in crate::agent) fn sweep_in_turn(&mut self) {
        let now = Instant::now();
        if !self.parts.layout.wants_sweep() {
            self.sweeper.live = 0;
            self.sweeper.flows.clear();
            self.sweeper.at = None;
        } else if is_due(self.sweeper.at, self.sweeper.took, now) {
            self.sweep_flows();
        }
        if self.has_nat_flows() && is_due(self.sweeper.nat_asked, self.sweeper.nat.took, now) {
            self.ask_for_nat_look();
        }
        self.count_flows();
    }

    /// Sweeps now: flows are to be cut.
    pub(in crate::agent) fn sweep(&mut self) {
        self.sweep_flows();
        if self.has_nat_flows() {
            self.ask_for_nat_look();
        }
        self.count_flows();
    }

    /// Takes in what a look at the table of `fullnat` flows has found.
    pub(in crate::agent) fn take_nat_look(&mut self, look: Arc<NatLook>) {
        self.sweeper.nat = look;
        self.watch_ports();
        self.count_flows();
    }

    /// Tells the drains how many flows there are, as of the older one of the two sweeps.
    fn count_flows(&mut self) {
        let now = Instant::now();
        let table = self.sweeper.at.unwrap_or(now);
        let nat = if self.has_nat_flows() {
            self.sweeper.nat.began.unwrap_or(self.started.0)
        } else {
            now
        };
        self.drains
            .observe_flows(&self.sweeper.all_flows(), table.min(nat));
    }

    /// Makes all that was given up usable at once: for when there is no other room.
    pub(in crate::agent) fn reclaim(&mut self) {
        if self.parts.layout.is_recovered() && !self.settle() {
            return;
        }
        self.parts.tables.wait_for_packets();
        self.sweep_by(Layout::sweep_after_wait);
        if self.has_nat_flows() {
            self.look_at_nat_flows_now();
        }
        self.parts.layout.release_all();
    }

    /// Brings tables that were read back, and never planned, to where what nothing leads to can be released; whether that
    /// was possible.
    fn settle(&mut self) -> bool {
        let pools = if self.parts.dataplane.origin() == DataplaneSource::New {
            log::error!(
                "there is no room for what is wanted beside the tables of the checkpoint: they are not restored, \
                 connections that were open may break; raise `max_slots` and `max_targets` and restart"
            );
            Vec::new()
        } else {
            self.parts.layout.present()
        };
        match self.parts.layout.plan(pools, self.generation, Instant::now()) {
            Ok(plan) => match self.carry_out(plan, Instant::now()) {
                Ok(()) => true,
                Err(error) => {
                    log::error!("the tables stay as they are: {error}");
                    false
                }
            },
            Err(error) => {
                log::error!("the tables stay as they are: {error}");
                false
            }
        }
    }

    fn sweep_flows(&mut self) {
        if self.has_nat_flows() {
            let looked = self.sweeper.nat.began.unwrap_or(self.started.0);
            self.sweep_by(|layout, tables, time, now| layout.sweep_beside_nat(tables, time, now, looked));
        } else {
            self.sweep_by(Layout::sweep);
        }
    }

    fn sweep_by(
        &mut self,
        sweep: impl FnOnce(&Layout, &mut crate::dataplane::MappedTables, FlowTime, Instant) -> Sweep,
    ) {
        let Some(time) = self.flow_time() else { return };
        let now = Instant::now();
        let sweep = sweep(&self.parts.layout, &mut self.parts.tables, time, now);
        self.parts.layout = self.sweeper.take(sweep, &mut self.parts.tables, now);
        self.parts.nat_sweeper.publish(&self.parts.layout);
    }

    fn flow_time(&self) -> Option<FlowTime> {
        let time = self.parts.dataplane.flow_time();
        time.map_err(|error| log::error!("flows are not looked after: {error:#}"))
            .ok()
    }

    /// Whether there are, or may be, flows through `fullnat`.
    fn has_nat_flows(&self) -> bool {
        let layout = &self.parts.layout;
        !layout.is_recovered() && (layout.translates() || self.sweeper.nat.entries != Some(0))
    }

    fn ask_for_nat_look(&mut self) {
        if let Some(time) = self.flow_time() {
            self.parts.nat_sweeper.ask(time);
            self.sweeper.nat_asked = Some(Instant::now());
        }
    }

    /// Looks through the table of `fullnat` flows at once, so that no flow names what is about to be used again.
    fn look_at_nat_flows_now(&mut self) {
        let Some(time) = self.flow_time() else { return };
        match self.parts.nat_sweeper.look_now(&self.parts.layout, time) {
            Ok(look) => self.take_nat_look(Arc::new(look)),
            Err(error) => log::error!("flows through fullnat are not looked after: {error:#}"),
        }
    }
}
