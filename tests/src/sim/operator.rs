//! What operators, heartbeats and bad luck do to the services: changes of all kinds, on top of one another.
//!
//! What must hold: a change is counted only if it was made, and every host that goes may come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Result;
use lb_userspace::{
    model::{
        AdminState, Backend, BackendPatch, Change, Forwarder, OnEmpty, Removal, Scheduler, Selection,
        Service, ServiceName, ServicePatch, Services, Span, Tracking, Whom,
    },
    plan::Availability,
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{balancer::Balancer, hosts::Host, services, wheel::TICK_MILLIS};

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Add,
    Remove,
    RemoveNow,
    Drain,
    DrainHost,
    DrainAll,
    DrainsOver,
    Maint,
    Ready,
    Weight,
    Failure,
    HostFailure,
    Outage,
    Flapping,
    Heartbeat,
    Growth,
    Window,
    Tracking,
    OnEmpty,
    Scheduler,
    Forwarder,
}

/// What changes are made of.
#[derive(Clone, Copy)]
pub(super) struct Mix {
    /// How often each kind is chosen, against the others.
    kinds: &'static [(Kind, u32)],
    /// Weights of new backends.
    new_weights: &'static [u16],
    /// Weights that backends are given later.
    weights: &'static [u16],
    /// Deadlines of drains, in seconds.
    deadlines: (u64, u64),
    /// Whether new backends take flows only after a heartbeat.
    heartbeats_first: bool,
}

/// All kinds, with weights that differ much. (Drains end and heartbeats return by themselves.)
pub(super) const ALL: Mix = Mix {
    kinds: ALL_KINDS,
    new_weights: &[1, 1, 1, 2, 4],
    weights: &[0, 1, 1, 1, 2, 3, 5],
    deadlines: (30, 900),
    heartbeats_first: true,
};

const ALL_KINDS: &[(Kind, u32)] = &[
    (Kind::Add, 16),
    (Kind::Remove, 8),
    (Kind::RemoveNow, 4),
    (Kind::Drain, 10),
    (Kind::DrainHost, 2),
    (Kind::DrainAll, 1),
    (Kind::Maint, 2),
    (Kind::Ready, 10),
    (Kind::Weight, 16),
    (Kind::Failure, 10),
    (Kind::HostFailure, 2),
    (Kind::Outage, 1),
    (Kind::Flapping, 2),
    (Kind::Growth, 1),
    (Kind::Window, 2),
    (Kind::Tracking, 2),
    (Kind::OnEmpty, 1),
    (Kind::Scheduler, 1),
    (Kind::Forwarder, 2),
];

/// What an ordinary day brings, at a service whose backends weigh 10: each change is about one of them.
pub(super) const ORDINARY: Mix = Mix {
    kinds: ORDINARY_KINDS,
    new_weights: &[10],
    weights: &[5, 8, 10, 12, 15, 20],
    deadlines: (60, 300),
    heartbeats_first: false,
};

const ORDINARY_KINDS: &[(Kind, u32)] = &[
    (Kind::Add, 1),
    (Kind::Remove, 1),
    (Kind::RemoveNow, 1),
    (Kind::Drain, 1),
    (Kind::Ready, 1),
    (Kind::Weight, 1),
    (Kind::Failure, 1),
];

/// What follows a change later.
#[derive(Clone, Debug)]
struct Later {
    service: ServiceName,
    hosts: Vec<Host>,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Heartbeat(bool),
    Ready,
}

/// Makes changes.
pub(super) struct Operator {
    names: Vec<ServiceName>,
    /// Backends of each service at the start.
    sizes: Vec<usize>,
    mix: Mix,
    later: BTreeMap<(u64, u64), Later>,
    sequence: u64,
    rng: StdRng,
}

impl Operator {
    pub(super) fn new(names: Vec<ServiceName>, services: &Services, mix: Mix, rng: StdRng) -> Self {
        let size = |name| services.get(name).map_or(0, |service| service.backends.len());
        Self {
            sizes: names.iter().map(size).collect(),
            names,
            mix,
            later: BTreeMap::new(),
            sequence: 0,
            rng,
        }
    }

    /// Makes what is due as a consequence of an earlier change, if anything is.
    ///
    /// # Errors
    /// When the planner refuses to follow what is known.
    pub(super) fn follow_up(&mut self, balancer: &mut Balancer, tick: u64) -> Result<Option<Kind>> {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= tick) {
            let Later { service, hosts, what } = entry.remove();
            let made = match what {
                What::Heartbeat(good) => {
                    let declared = hosts
                        .iter()
                        .filter(|host| is_declared(balancer, &service, **host));
                    let moves = declared.count() > 0;
                    for host in hosts {
                        let verdict = if good {
                            Availability::Up
                        } else {
                            Availability::Down
                        };
                        balancer.known.set(&service, host, verdict);
                    }
                    if moves {
                        balancer.refresh()?;
                    }
                    moves.then_some(Kind::Heartbeat)
                }
                What::Ready => {
                    let made = hosts
                        .iter()
                        .filter(|host| ready(balancer, &service, **host))
                        .count();
                    (made > 0).then_some(Kind::Ready)
                }
            };
            if made.is_some() {
                return Ok(made);
            }
        }
        Ok(None)
    }

    /// Makes a change of some kind; `None` if nothing that was tried can be made.
    ///
    /// # Errors
    /// When the planner refuses to follow what is known.
    pub(super) fn change(&mut self, balancer: &mut Balancer, tick: u64) -> Result<Option<Kind>> {
        for _ in 0..32 {
            let Ok((kind, _)) = self
                .mix
                .kinds
                .choose_weighted(&mut self.rng, |(_, weight)| *weight)
            else {
                return Ok(None);
            };
            let number = self.rng.random_range(0..self.names.len());
            let name = self.names[number].clone();
            let Some(service) = balancer.services.get(&name).cloned() else {
                continue;
            };
            let mut turn = Turn {
                operator: self,
                balancer,
                service: &service,
                size: 0,
                tick,
            };
            turn.size = turn.operator.sizes[number];
            if turn.make(*kind)? {
                return Ok(Some(*kind));
            }
        }
        Ok(None)
    }

    fn later(&mut self, tick: u64, service: &ServiceName, hosts: Vec<Host>, what: What) {
        self.sequence += 1;
        let service = service.clone();
        self.later
            .insert((tick, self.sequence), Later { service, hosts, what });
    }
}

fn is_declared(balancer: &Balancer, service: &ServiceName, host: Host) -> bool {
    balancer
        .services
        .get(service)
        .is_some_and(|service| service.backend(host.backend()).is_some())
}

/// A host that drains, is in maintenance or leaves takes flows again.
fn ready(balancer: &mut Balancer, service: &ServiceName, host: Host) -> bool {
    let declared = balancer.services.get(service);
    let Some(backend) = declared.and_then(|service| service.backend(host.backend())) else {
        return false;
    };
    let patch = BackendPatch {
        state: Some(AdminState::Ready),
        ..BackendPatch::default()
    };
    let change = match backend.state {
        AdminState::Ready => return false,
        AdminState::Drain | AdminState::Maint => Change::SetBackend(service.clone(), backend.id(), patch),
        AdminState::Leaving => Change::AddBackend(
            service.clone(),
            Backend {
                weight: backend.weight,
                ..Backend::new(backend.id())
            },
        ),
    };
    balancer.change(change)
}

/// One attempt at a change of one service.
struct Turn<'a> {
    operator: &'a mut Operator,
    balancer: &'a mut Balancer,
    service: &'a Service,
    /// Its backends at the start.
    size: usize,
    tick: u64,
}

impl Turn<'_> {
    fn make(&mut self, kind: Kind) -> Result<bool> {
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
            Kind::DrainsOver | Kind::Heartbeat => Ok(false),
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

    /// Hosts of the service that are in one of these states, and whether their heartbeat is good.
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

    /// New backends in one change, as a reload makes it; their heartbeats come later.
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
            if self.operator.mix.heartbeats_first {
                self.verdict(*host, Availability::Checking);
            }
        }
        let made = !hosts.is_empty() && self.reload(service);
        let hosts = Vec::from_iter(hosts);
        if made && self.operator.mix.heartbeats_first {
            let at = self.soon(1..4);
            let name = self.name();
            self.operator.later(at, &name, hosts, What::Heartbeat(true));
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
        self.balancer
            .change(Change::RemoveBackend(self.name(), host.backend(), removal))
    }

    fn deadline(&mut self) -> Span {
        let (least, most) = self.operator.mix.deadlines;
        Span::nearest(Duration::from_secs(self.operator.rng.random_range(least..=most)))
    }

    fn set_state(&mut self, state: AdminState) -> bool {
        let Some(host) = self.taker() else { return false };
        let patch = BackendPatch {
            state: Some(state),
            deadline: (state == AdminState::Drain).then(|| self.deadline()),
            ..BackendPatch::default()
        };
        self.balancer
            .change(Change::SetBackend(self.name(), host.backend(), patch))
    }

    fn drain_host(&mut self) -> bool {
        let Some(host) = self.taker() else { return false };
        let selection = Selection {
            whom: Whom::Host(host.address()),
            service: None,
        };
        let deadline = self.deadline();
        self.balancer.change(Change::Drain(selection, Some(deadline)))
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
        self.balancer
            .change(Change::SetBackend(self.name(), backend.id(), patch))
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
            .later(back, &self.service.name, hosts, What::Heartbeat(true));
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
                    .later(back, &name, vec![host], What::Heartbeat(true));
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

    /// A heartbeat that goes and comes every second or two.
    fn flap(&mut self) -> Result<bool> {
        let Some(host) = self.taker() else {
            return Ok(false);
        };
        let mut at = self.tick;
        for _ in 0..3 {
            for good in [true, false] {
                at += self.operator.rng.random_range(500..2500) / TICK_MILLIS;
                self.operator
                    .later(at, &self.service.name, vec![host], What::Heartbeat(good));
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
                    Tracking::Always => Tracking::Changes,
                    _ => Tracking::Always,
                });
            }
            Kind::OnEmpty => {
                patch.on_empty = Some(match service.on_empty {
                    OnEmpty::Drop => OnEmpty::Pass,
                    OnEmpty::Pass => OnEmpty::Drop,
                });
            }
            Kind::Scheduler => {
                let all = [Scheduler::Consistent, Scheduler::Maglev, Scheduler::Rendezvous];
                let others = all.into_iter().filter(|other| *other != service.scheduler);
                patch.scheduler = Vec::from_iter(others).choose(&mut self.operator.rng).copied();
            }
            Kind::Forwarder => {
                patch.forwarder = Some(match service.forwarder {
                    Forwarder::L2dsr => Forwarder::Ipip,
                    Forwarder::Ipip => Forwarder::L2dsr,
                    Forwarder::Nat => return false,
                });
            }
            _ => return false,
        }
        self.balancer.change(Change::SetService(self.name(), patch))
    }
}
