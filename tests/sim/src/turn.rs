//! One change of one service, by its kind.
//!
//! What must hold: half of the backends that a service began with are left to take flows, but when all are to go.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use lb_core::desired::{
    AdminState, Backend, BackendPatch, Change, Forwarder, OnEmpty, Removal, Scheduler, Selection, Service,
    ServiceName, ServicePatch, Services, Span, TrackingPolicy,
};
use lb_core::plan::Availability;
use rand::{Rng, seq::IndexedRandom};

use super::{
    balancer::Balancer,
    hosts::Host,
    kinds::Kind,
    operator::{Operator, What, is_declared, ready},
    services,
    wheel::TICK_MILLIS,
};

/// One attempt at a change of one service.
pub(super) struct Turn<'a> {
    pub(super) operator: &'a mut Operator,
    pub(super) balancer: &'a mut Balancer,
    pub(super) service: &'a Service,
    /// Its backends at the start.
    pub(super) size: usize,
    pub(super) tick: u64,
}

impl Turn<'_> {
    /// Makes a change of that kind; false if it cannot be made.
    ///
    /// # Errors
    /// When the planner refuses to follow what is known.
    pub(super) fn make(&mut self, kind: Kind) -> Result<bool> {
        match kind {
            Kind::Add => Ok(self.add(1)),
            Kind::Growth => Ok(self.add(self.size / 2)),
            Kind::Remove => Ok(self.remove(Removal::Drain)),
            Kind::RemoveNow => Ok(self.remove(Removal::Now)),
            Kind::Drain => Ok(self.set_state(AdminState::Drain)),
            Kind::Maint => Ok(self.set_state(AdminState::Maint)),
            Kind::DrainHost => Ok(self.drain_host()),
            Kind::DrainAll => Ok(self.drain_all()),
            Kind::Ready => Ok(self.ready()),
            Kind::Weight => Ok(self.weigh()),
            Kind::Failure => self.fail(),
            Kind::HostFailure => self.fail_host(),
            Kind::Outage => self.fail_all(),
            Kind::Flapping => self.flap(),
            Kind::Window | Kind::Tracking | Kind::OnEmpty | Kind::Scheduler | Kind::Forwarder => {
                Ok(self.set(kind))
            }
            Kind::DrainsOver | Kind::HealthCheck => Ok(false),
        }
    }

    fn name(&self) -> ServiceName {
        self.service.name.clone()
    }

    /// A time from now on, in seconds.
    fn soon(&mut self, seconds: std::ops::Range<u64>) -> u64 {
        self.tick
            + self
                .operator
                .rng
                .random_range(seconds.start * 1000..seconds.end * 1000)
                / TICK_MILLIS
    }

    /// Hosts of the service that are in one of these states, and whether their health check is good.
    fn hosts(&self, states: &[AdminState], good: bool) -> Vec<Host> {
        let all = self.service.backends.iter();
        all.filter(|backend| states.contains(&backend.state))
            .filter(|backend| self.balancer.known.is_up(&self.service.name, backend.id()) == good)
            .map(|backend| Host::of_backend(backend.id()))
            .collect()
    }

    /// One of those that take flows, if enough others do.
    fn taker(&mut self) -> Option<Host> {
        let takers = self.hosts(&[AdminState::Ready], true);
        let enough = takers.len() > (self.size / 2).max(2);
        enough
            .then(|| takers.choose(&mut self.operator.rng).copied())
            .flatten()
    }

    /// New backends in one change, as a reload makes it; their health checks come later.
    fn add(&mut self, count: usize) -> bool {
        if self.service.backends.len() + count > self.size * 3 {
            return false;
        }
        let mut hosts = BTreeSet::new();
        for _ in 0..count * 8 {
            let host = Host(self.operator.rng.random_range(1..=self.size as u16 * 4));
            if self.service.backend(host.backend()).is_none() && hosts.len() < count {
                hosts.insert(host);
            }
        }
        let weights = self.operator.mix.new_weights;
        let mut service = self.service.clone();
        for host in &hosts {
            let mut backend = Backend::new(host.backend());
            backend.weight = *weights.choose(&mut self.operator.rng).unwrap_or(&1);
            service.backends.push(backend);
            if self.operator.mix.checks_first {
                self.verdict(*host, Availability::Checking);
            }
        }
        let made = !hosts.is_empty() && self.reload(service);
        let hosts = Vec::from_iter(hosts);
        if made && self.operator.mix.checks_first {
            let at = self.soon(1..4);
            let name = self.name();
            self.operator.later(at, &name, hosts, What::HealthCheck(true));
        } else if !made {
            hosts
                .into_iter()
                .for_each(|host| self.verdict(host, Availability::Up));
        }
        made
    }

    fn verdict(&mut self, host: Host, verdict: Availability) {
        self.balancer.known.set(&self.service.name, host, verdict);
    }

    /// The service becomes this one, as a reload makes it.
    fn reload(&mut self, service: Service) -> bool {
        let others = self.balancer.services.iter();
        let others = others.filter(|other| other.name != service.name);
        let mut all: Vec<Service> = others.map(|other| (**other).clone()).collect();
        all.push(service);
        let change = Services::new(all).map(|all| Change::ReplaceAll(all, Removal::Now));
        change.is_ok_and(|change| self.balancer.change(change))
    }

    fn remove(&mut self, removal: Removal) -> bool {
        let Some(host) = self.taker() else { return false };
        self.balancer.change(Change::RemoveBackend {
            service: self.name(),
            backend: host.backend(),
            removal,
        })
    }

    fn deadline(&mut self) -> Span {
        let (least, most) = self.operator.mix.deadlines;
        Span::nearest(Duration::from_secs(self.operator.rng.random_range(least..=most)))
    }

    fn set_state(&mut self, state: AdminState) -> bool {
        let Some(host) = self.taker() else { return false };
        let patch = BackendPatch {
            state: Some(state),
            deadline: (state == AdminState::Drain).then(|| Some(self.deadline())),
            ..BackendPatch::default()
        };
        self.balancer.change(Change::SetBackend {
            service: self.name(),
            backend: host.backend(),
            patch,
        })
    }

    fn drain_host(&mut self) -> bool {
        let Some(host) = self.taker() else { return false };
        let selection = Selection {
            deadline: Some(self.deadline()),
            ..Selection::of_host(host.address())
        };
        self.balancer.change(Change::Drain(selection))
    }

    /// Nobody takes new flows, for a while.
    fn drain_all(&mut self) -> bool {
        let hosts = self.hosts(&[AdminState::Ready], true);
        if self.size > 10 || hosts.is_empty() {
            return false;
        }
        let mut service = self.service.clone();
        for backend in &mut service.backends {
            if backend.state == AdminState::Ready {
                backend.state = AdminState::Drain;
            }
        }
        let made = self.reload(service);
        if made {
            let at = self.soon(5..60);
            self.operator.later(at, &self.service.name, hosts, What::Ready);
        }
        made
    }

    fn ready(&mut self) -> bool {
        let out = [AdminState::Drain, AdminState::Maint, AdminState::Leaving];
        let out = [self.hosts(&out, true), self.hosts(&out, false)].concat();
        let host = out.choose(&mut self.operator.rng).copied();
        host.is_some_and(|host| ready(self.balancer, &self.service.name, host))
    }

    fn weigh(&mut self) -> bool {
        let weights = self.operator.mix.weights;
        let backend = self.service.backends.choose(&mut self.operator.rng);
        let weight = *weights.choose(&mut self.operator.rng).unwrap_or(&1);
        let Some(backend) = backend.filter(|backend| backend.weight != weight) else {
            return false;
        };
        let weighed = self
            .service
            .backends
            .iter()
            .filter(|backend| backend.weight > 0)
            .count();
        if weight == 0 && weighed <= self.size / 2 {
            return false;
        }
        let patch = BackendPatch {
            weight: Some(weight),
            ..BackendPatch::default()
        };
        self.balancer.change(Change::SetBackend {
            service: self.name(),
            backend: backend.id(),
            patch,
        })
    }

    fn fail(&mut self) -> Result<bool> {
        let draining = self.hosts(&[AdminState::Drain, AdminState::Leaving], true);
        let host = match draining.choose(&mut self.operator.rng) {
            Some(host) if self.operator.rng.random_range(0..4) == 0 => Some(*host),
            _ => self.taker(),
        };
        let Some(host) = host else { return Ok(false) };
        let back = self.soon(2..120);
        self.down(vec![host], back)
    }

    fn down(&mut self, hosts: Vec<Host>, back: u64) -> Result<bool> {
        for host in &hosts {
            self.balancer
                .known
                .set(&self.service.name, *host, Availability::Down);
        }
        self.operator
            .later(back, &self.service.name, hosts, What::HealthCheck(true));
        self.balancer.refresh()?;
        Ok(true)
    }

    /// A host fails in all services at once.
    fn fail_host(&mut self) -> Result<bool> {
        let Some(host) = self.taker() else {
            return Ok(false);
        };
        let back = self.soon(2..60);
        for name in self.operator.names.clone() {
            if is_declared(self.balancer, &name, host) {
                self.balancer.known.set(&name, host, Availability::Down);
                self.operator
                    .later(back, &name, vec![host], What::HealthCheck(true));
            }
        }
        self.balancer.refresh()?;
        Ok(true)
    }

    /// All backends of a small service fail.
    fn fail_all(&mut self) -> Result<bool> {
        let hosts: Vec<Host> = self
            .service
            .backends
            .iter()
            .map(|b| Host::of_backend(b.id()))
            .collect();
        if self.size > 10 {
            return Ok(false);
        }
        let back = self.soon(2..20);
        self.down(hosts, back)
    }

    /// A health check that goes and comes every second or two.
    fn flap(&mut self) -> Result<bool> {
        let Some(host) = self.taker() else {
            return Ok(false);
        };
        let mut at = self.tick;
        for _ in 0..3 {
            for good in [true, false] {
                at += self.operator.rng.random_range(500..2500) / TICK_MILLIS;
                self.operator
                    .later(at, &self.service.name, vec![host], What::HealthCheck(good));
            }
        }
        let back = at + 2000 / TICK_MILLIS;
        self.down(vec![host], back)
    }

    fn set(&mut self, kind: Kind) -> bool {
        let service = self.service;
        let mut patch = ServicePatch::default();
        match kind {
            Kind::Window => {
                let [longer, shorter] = services::windows(service.protocol).map(Span::nearest);
                patch.window = Some(if service.window == Some(shorter) {
                    Some(longer)
                } else {
                    Some(shorter)
                });
            }
            Kind::Tracking => {
                patch.tracking = Some(match service.tracking {
                    TrackingPolicy::Always => TrackingPolicy::Changes,
                    _ => TrackingPolicy::Always,
                });
            }
            Kind::OnEmpty => {
                patch.on_empty = Some(match service.on_empty {
                    OnEmpty::Drop => OnEmpty::Pass,
                    OnEmpty::Pass | OnEmpty::Reject => OnEmpty::Drop,
                });
            }
            Kind::Scheduler => {
                let others = Scheduler::ALL
                    .iter()
                    .copied()
                    .filter(|other| *other != service.scheduler);
                patch.scheduler = Vec::from_iter(others).choose(&mut self.operator.rng).copied();
            }
            Kind::Forwarder => {
                patch.forwarder = Some(match service.forwarder {
                    Forwarder::L2dsr => Forwarder::Ipip,
                    Forwarder::Ipip => Forwarder::L2dsr,
                    _ => return false,
                });
            }
            _ => return false,
        }
        self.balancer.change(Change::SetService {
            service: self.name(),
            patch,
        })
    }
}
