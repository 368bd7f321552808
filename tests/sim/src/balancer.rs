//! The balancer: the real planner and the real tables, and what an agent would have learnt of the world.
//!
//! What must hold: nothing is decided here. Plans and sweeps are carried out as the agent does it, write by write, so that
//! packets come between any two.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lb_common::abi::TagsEntry;
use lb_core::desired::{Backend, BackendId, Change, Service, ServiceName, Services};
use lb_core::plan::{
    self, Availability, BackendRef, Capacity, FlowTime, InMemory, Layout, NextHop, Observed, TunnelSources,
    Write,
};

use super::{hosts::Host, wheel::TICK_MILLIS};

/// From one sweep to the next, as in the agent.
const PACE: Duration = Duration::from_secs(2);
/// What a unit of the flow clock is worth.
const FLOW_UNIT: Duration = Duration::from_millis(256);

/// What is known of the hosts: all are one hop away.
#[derive(Clone)]
pub(super) struct Known {
    /// Health checks that are not good.
    unavailable: HashMap<(ServiceName, BackendId), Availability>,
    sources: TunnelSources,
}

impl Known {
    /// Takes in a verdict.
    pub(super) fn set(&mut self, service: &ServiceName, host: Host, availability: Availability) {
        let key = (service.clone(), host.backend());
        match availability {
            Availability::Up => self.unavailable.remove(&key),
            _ => self.unavailable.insert(key, availability),
        };
    }

    pub(super) fn is_up(&self, service: &ServiceName, id: BackendId) -> bool {
        !self.unavailable.contains_key(&(service.clone(), id))
    }
}

impl Observed for Known {
    fn availability(&self, service: &Service, backend: &Backend) -> Availability {
        let key = (service.name.clone(), backend.id());
        self.unavailable.get(&key).cloned().unwrap_or(Availability::Up)
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        Some(NextHop {
            interface: 1,
            destination_mac: Host::of_address(address).mac(),
            source_mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            on_link: true,
            tags: TagsEntry::NONE,
        })
    }

    fn is_own(&self, _: IpAddr) -> bool {
        false
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        &self.sources
    }

    fn only_interface(&self) -> Option<u32> {
        Some(1)
    }
}

/// The balancer.
pub(super) struct Balancer {
    pub(super) services: Services,
    pub(super) known: Known,
    pub(super) memory: InMemory,
    /// Entries of each backend, where a sweep has counted them since [`Balancer::take_flows`].
    flows: Option<HashMap<BackendRef, u64>>,
    /// When the last sweep was.
    swept: u64,
    /// The most entries that the flow table has held since [`Balancer::take_peak`].
    peak: u64,
    /// Entries that the last sweep has left.
    entries: u64,
    capacity: Capacity,
    layout: Layout,
    generation: u64,
    pending: VecDeque<Write>,
    start: Instant,
    tick: u64,
}

impl Balancer {
    /// With room for so many `flows` in the flow table.
    pub(super) fn new(services: Vec<Service>, flows: u32, seed: u64) -> Result<Self> {
        let capacity = Capacity {
            services: 16,
            targets: 2048,
            slots: 1 << 18,
            flows,
            nat_flows: 4096,
        };
        let mut balancer = Self {
            services: Services::default(),
            known: Known {
                unavailable: HashMap::new(),
                sources: TunnelSources {
                    v4: "100.64.0.0/16".parse()?,
                    v6: "fd00:64::/96".parse()?,
                },
            },
            memory: InMemory::new(&capacity, seed),
            flows: None,
            swept: 0,
            peak: 0,
            entries: 0,
            capacity,
            layout: Layout::new(capacity, seed),
            generation: 0,
            pending: VecDeque::new(),
            start: Instant::now(),
            tick: 0,
        };
        let services = Services::new(services).context("the simulation's services are no good")?;
        balancer.plan(&services)?;
        balancer.finish_writing();
        balancer.services = services;
        Ok(balancer)
    }

    /// The time is `tick` now.
    pub(super) fn at(&mut self, tick: u64) {
        self.tick = tick;
        self.memory.clock = self.flow_time().now;
    }

    /// That time, as the planner is told it.
    pub(super) fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.tick * TICK_MILLIS)
    }

    fn flow_time(&self) -> FlowTime {
        FlowTime {
            now: (u128::from(self.tick * TICK_MILLIS) / FLOW_UNIT.as_millis()) as u32,
            unit: FLOW_UNIT,
        }
    }

    /// Makes a change of the desired state; false if it cannot be made.
    pub(super) fn change(&mut self, change: Change) -> bool {
        let Ok(next) = self.services.after(change) else {
            return false;
        };
        let planned = self.plan(&next).is_ok();
        if planned {
            self.services = next;
        }
        planned
    }

    /// Follows what is known now.
    pub(super) fn refresh(&mut self) -> Result<()> {
        let services = self.services.clone();
        self.plan(&services)
    }

    fn plan(&mut self, services: &Services) -> Result<()> {
        self.finish_writing();
        let pools = self.layout.pools(services, &self.known);
        let generation = self.generation + 1;
        let plan = match self.layout.plan(pools.clone(), generation, self.now()) {
            Err(_) if self.layout.has_retired() => {
                self.sweep_by(Layout::sweep_after_wait);
                self.layout.release_all();
                self.layout.plan(pools, generation, self.now())
            }
            planned => planned,
        }?;
        self.generation = generation;
        self.layout = plan.layout;
        self.pending = plan.writes.into();
        Ok(())
    }

    /// Whether a change is under way.
    pub(super) fn is_writing(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Carries out the next write of a change; true if there was one.
    pub(super) fn write(&mut self) -> bool {
        let Some(write) = self.pending.pop_front() else {
            return false;
        };
        plan::apply(&[write], &mut self.memory);
        if self.pending.is_empty() && self.layout.sweep_is_due() {
            self.sweep_by(Layout::sweep);
        }
        true
    }

    /// Carries out the rest of a change.
    pub(super) fn finish_writing(&mut self) {
        while self.write() {}
    }

    /// Sweeps if it is time to, as the agent does once a second.
    pub(super) fn sweep_in_turn(&mut self) {
        self.finish_writing();
        let since = Duration::from_millis((self.tick - self.swept) * TICK_MILLIS);
        if self.layout.wants_sweep() && since >= PACE {
            self.sweep_by(Layout::sweep);
        } else if !self.layout.wants_sweep() {
            self.flows = Some(HashMap::new());
            self.entries = 0;
        }
    }

    fn sweep_by(&mut self, sweep: impl FnOnce(&Layout, &mut InMemory, FlowTime, Instant) -> plan::Sweep) {
        let (time, now) = (self.flow_time(), self.now());
        let sweep = sweep(&self.layout, &mut self.memory, time, now);
        plan::apply(&sweep.writes, &mut self.memory);
        self.layout = sweep.layout;
        self.flows = Some(sweep.flows);
        self.swept = self.tick;
        // Before the sweep there were the most: between sweeps entries are added only.
        self.peak = self.peak.max(sweep.live + sweep.dropped);
        self.entries = sweep.live;
    }

    /// Flows that found no room in the flow table so far.
    pub(super) fn refused(&self) -> u64 {
        let numbers = 0..self.capacity.numbers();
        numbers.map(|number| self.memory.tracking(number).refused).sum()
    }

    /// Entries of each backend, if a sweep has counted them since the last call.
    pub(super) fn take_flows(&mut self) -> Option<HashMap<BackendRef, u64>> {
        self.flows.take()
    }

    /// The most entries that the flow table has held since the last call.
    pub(super) fn take_peak(&mut self) -> u64 {
        std::mem::replace(&mut self.peak, self.entries)
    }
}
