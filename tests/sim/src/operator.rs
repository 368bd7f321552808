//! Who makes the changes: operators, health checks and bad luck, on top of one another.
//!
//! What must hold: a change is counted only if it was made, and every host that goes may come back.

use std::collections::BTreeMap;

use anyhow::Result;
use lb_core::desired::{AdminState, Backend, BackendPatch, Change, ServiceName, Services};
use lb_core::plan::Availability;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{
    balancer::Balancer,
    hosts::Host,
    kinds::{Kind, Mix},
    turn::Turn,
};

/// What follows a change later.
#[derive(Clone, Debug)]
struct Later {
    service: ServiceName,
    hosts: Vec<Host>,
    what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    HealthCheck(bool),
    Ready,
}

/// Makes changes.
pub(super) struct Operator {
    pub(super) names: Vec<ServiceName>,
    /// Backends of each service at the start.
    sizes: Vec<usize>,
    pub(super) mix: Mix,
    later: BTreeMap<(u64, u64), Later>,
    sequence: u64,
    pub(super) rng: StdRng,
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
                What::HealthCheck(good) => {
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
                    moves.then_some(Kind::HealthCheck)
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

    /// Remembers what follows at `tick`.
    pub(super) fn later(&mut self, tick: u64, service: &ServiceName, hosts: Vec<Host>, what: What) {
        self.sequence += 1;
        let service = service.clone();
        self.later
            .insert((tick, self.sequence), Later { service, hosts, what });
    }
}

/// Whether the service has the host.
pub(super) fn is_declared(balancer: &Balancer, service: &ServiceName, host: Host) -> bool {
    balancer
        .services
        .get(service)
        .is_some_and(|service| service.backend(host.backend()).is_some())
}

/// A host that drains, is in maintenance or leaves takes flows again.
pub(super) fn ready(balancer: &mut Balancer, service: &ServiceName, host: Host) -> bool {
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
        AdminState::Drain | AdminState::Maint => Change::SetBackend {
            service: service.clone(),
            backend: backend.id(),
            patch,
        },
        AdminState::Leaving => Change::AddBackend {
            service: service.clone(),
            backend: Backend {
                weight: backend.weight,
                ..Backend::new(backend.id())
            },
        },
    };
    balancer.change(change)
}
