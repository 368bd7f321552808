//! When the flow table is swept, and what was found there.
//!
//! Invariant: flows of a backend that is gone are cut as soon as the tables say so; all else can wait for its turn.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use lb_common::abi::FlowEnds;

use crate::dataplane::DataplaneSource;
use lb_core::plan::{BackendRef, FlowTime, Layout, Memory, Sweep, Usage, apply};

use crate::agent::actor::Actor;

/// From one sweep to the next, while there is anything to look after.
const PACE: Duration = Duration::from_secs(2);

/// What the last sweep found.
#[derive(Debug, Default)]
pub(in crate::agent) struct Sweeper {
    /// When it began.
    at: Option<Instant>,
    /// How long it took.
    pub(in crate::agent) took: Duration,
    /// Entries in the flow table.
    pub(in crate::agent) live: u64,
    /// Entries of each backend; absent means none.
    pub(in crate::agent) flows: HashMap<BackendRef, u64>,
    /// How much of each address is in use that `fullnat` backends see.
    pub(in crate::agent) sources: BTreeMap<IpAddr, Usage>,
    /// Entries of `fullnat` flows whose opposite was not found.
    lonely: HashSet<FlowEnds>,
    /// Entries in the table of `fullnat` flows before the sweep; absent if nobody has looked, since an earlier agent may
    /// have left some.
    translations: Option<usize>,
}

impl Sweeper {
    fn is_due(&self, now: Instant) -> bool {
        // A full table takes its time, others have to wait meanwhile: 262,144 flows through `fullnat` to 1,000 backends
        // take a second (0.7 s to read, 0.3 s to look through), so that ports get free up to 10 s late.
        let pace = PACE.max(self.took * 10);
        self.at.is_none_or(|at| now.saturating_duration_since(at) >= pace)
    }

    /// Carries out what a sweep asks for, and keeps what it found.
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
}

impl Actor {
    /// Sweeps if it is time to.
    pub(in crate::agent) fn sweep_in_turn(&mut self) {
        let is_wanted = self.parts.layout.wants_sweep() || self.has_translations();
        if self.sweeper.is_due(Instant::now()) && is_wanted {
            self.sweep();
        } else if !is_wanted {
            self.sweeper.live = 0;
            self.sweeper.flows.clear();
            self.drains.observe_flows(&self.sweeper.flows, Instant::now());
        }
    }

    /// Sweeps now.
    pub(in crate::agent) fn sweep(&mut self) {
        self.sweep_by(Layout::sweep);
    }

    /// Makes all that was given up usable at once: for when there is no other room.
    pub(in crate::agent) fn reclaim(&mut self) {
        if self.parts.layout.is_recovered() && !self.settle() {
            return;
        }
        self.parts.tables.wait_for_packets();
        self.sweep_by(Layout::sweep_after_wait);
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

    fn sweep_by(
        &mut self,
        sweep: impl FnOnce(&Layout, &mut crate::dataplane::MappedTables, FlowTime, Instant) -> Sweep,
    ) {
        let time = match self.parts.dataplane.flow_time() {
            Ok(time) => time,
            Err(error) => return log::error!("the flow table is not swept: {error:#}"),
        };
        let now = Instant::now();
        let sweep = sweep(&self.parts.layout, &mut self.parts.tables, time, now);
        self.parts.layout = self.sweeper.take(sweep, &mut self.parts.tables, now);
        self.sweep_translations(time);
        self.sweeper.took = now.elapsed();
        self.drains.observe_flows(&self.sweeper.flows, now);
    }

    /// Whether there are, or may be, flows through `fullnat`.
    fn has_translations(&self) -> bool {
        let layout = &self.parts.layout;
        !layout.is_recovered() && (layout.translates() || self.sweeper.translations != Some(0))
    }

    /// Releases what `fullnat` flows no longer need, and counts those that are left with the others.
    fn sweep_translations(&mut self, time: FlowTime) {
        if !self.has_translations() {
            return;
        }
        let entries = match self.parts.translations.entries() {
            Ok(entries) => entries,
            Err(error) => return log::error!("flows through fullnat are not looked after: {error:#}"),
        };
        let translated = self
            .parts
            .layout
            .look_through(&entries, &self.sweeper.lonely, time);
        translated.carry_out(&mut self.parts.translations);
        for (backend_ref, flows) in translated.flows {
            *self.sweeper.flows.entry(backend_ref).or_default() += flows;
        }
        self.sweeper.sources = translated.used;
        self.sweeper.lonely = translated.lonely;
        self.sweeper.translations = Some(entries.len());
        self.watch_ports();
    }
}
