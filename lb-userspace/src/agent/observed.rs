//! What the agent knows about the world, for the planner: health checks, next hops, interfaces.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use crate::health::{self, Belief, Beliefs};
use crate::netlink::{NextHops, Resolution, RouteNeed};
use lb_check::ProbeTarget;
use lb_core::desired::{
    AdminState, Backend, Dependents, Forwarder, NeedsDelta, Service, ServiceName, Services,
};
use lb_core::plan::{Availability, BackendRef, NextHop, Observed, TunnelSources};

/// All health checks that `services` want.
pub(super) fn probe_targets(services: &Services) -> HashSet<ProbeTarget> {
    each(services)
        .filter_map(|(service, backend)| service.probe_target(backend))
        .collect()
}

/// All addresses that packets are sent to.
///
/// With those that `fullnat` backends answer to, if there are such backends: they are to be this host's own.
pub(super) fn addresses(services: &Services, pool: &[IpAddr]) -> BTreeSet<IpAddr> {
    let translates = services.iter().any(|service| service.uses(Forwarder::Fullnat));
    let pool = pool.iter().filter(|_| translates);
    each(services)
        .map(|(_, backend)| backend.address)
        .chain(pool.copied())
        .collect()
}

/// What the addresses of [`addresses`] need of their ways, beside that there is one.
pub(super) fn needs(services: &Services, pool: &[IpAddr]) -> BTreeMap<IpAddr, RouteNeed> {
    let need = |(service, backend): (&Service, &Backend)| match backend.forwarder_in_use(service) {
        Forwarder::L2dsr => Some((backend.address, RouteNeed::OnLink)),
        Forwarder::Local => Some((backend.address, RouteNeed::Own)),
        _ => None,
    };
    let pool = pool.iter().map(|&address| (address, RouteNeed::Own));
    each(services).filter_map(need).chain(pool).collect()
}

/// Every backend with its service.
pub(super) fn each(services: &Services) -> impl Iterator<Item = (&Service, &Backend)> {
    services.iter().flat_map(|service| backends_of(service))
}

fn backends_of(service: &Service) -> impl Iterator<Item = (&Service, &Backend)> {
    service.backends.iter().map(move |backend| (service, backend))
}

/// The present knowledge.
#[derive(Debug)]
pub(super) struct ObservedState {
    /// What is believed of each health check; absent before its first verdict.
    pub(super) verdicts: HashMap<ProbeTarget, health::Health>,
    /// Backends that the tables of an earlier agent give flows to. They are taken to be up when the services are known.
    pub(super) serving: HashSet<BackendRef>,
    /// The next hop of each backend address.
    pub(super) hops: NextHops,
    /// Interfaces that the program cannot send out of, and why not.
    pub(super) closed: HashMap<u32, String>,
    pub(super) sources: TunnelSources,
    pub(super) only_interface: Option<u32>,
}

impl ObservedState {
    /// What `next` is to begin with where nothing is known of its health checks: what is known of the one before that asked
    /// the same, and that backends are up which are up by another check, or by the tables. So a change of a check, or
    /// a restart, is no reason to take a backend's flows away at the first failure. For almost all backends, at almost
    /// every change, there is nothing to believe, since they have a verdict.
    ///
    /// Only the services `names` are looked at: of all others everything that can be believed is believed already.
    pub(super) fn beliefs(
        &self,
        services: &Services,
        next: &Services,
        names: &BTreeSet<ServiceName>,
    ) -> Beliefs {
        let mut beliefs = Beliefs::new();
        let concerned = names.iter().filter_map(|name| next.get(name));
        for (service, backend) in concerned.flat_map(|service| backends_of(service)) {
            let Some(target) = service
                .probe_target(backend)
                .filter(|target| !self.is_judged(target))
            else {
                continue;
            };
            let Some(belief) = self.belief(&target, services, service, backend) else {
                continue;
            };
            // A health check that several backends share is believed good if any of them serves.
            let first = beliefs.entry(target).or_insert_with(|| belief.clone());
            if belief.state == health::Health::Up && first.state != health::Health::Up {
                *first = belief;
            }
        }
        beliefs
    }

    fn belief(
        &self,
        target: &ProbeTarget,
        services: &Services,
        service: &Service,
        backend: &Backend,
    ) -> Option<Belief> {
        let up = Belief {
            state: health::Health::Up,
            after: None,
        };
        if self.serves_by_the_tables(service, backend) {
            return Some(up);
        }
        let service = services.get(&service.name)?;
        let backend = service.backend(backend.id())?;
        let before = service.probe_target(backend);
        let same = before.filter(|before| before.asks_what(target));
        if let Some(before) = same.filter(|before| self.is_judged(before)) {
            return Some(Belief {
                state: self.verdicts[&before],
                after: Some(before),
            });
        }
        let is_up =
            backend.state != AdminState::Maint && self.availability(service, backend) == Availability::Up;
        is_up.then_some(up)
    }

    fn is_judged(&self, target: &ProbeTarget) -> bool {
        let verdict = self.verdicts.get(target);
        verdict.is_some_and(|state| *state != health::Health::Checking)
    }

    /// Whether an earlier agent left flows to this backend.
    pub(super) fn serves_by_the_tables(&self, service: &Service, backend: &Backend) -> bool {
        // Almost always empty: nobody is asked to make a name to look up.
        !self.serving.is_empty()
            && self.serving.contains(&BackendRef {
                service: service.name.clone(),
                backend: backend.id(),
            })
    }

    /// Takes in that the services need other health checks now: what was believed of those that run is known, and what was
    /// known of those that ended is dropped.
    pub(super) fn accept(&mut self, needs: &NeedsDelta, dependents: &Dependents, beliefs: &Beliefs) {
        for old in &needs.old_checks {
            self.verdicts.remove(old);
        }
        for (target, belief) in beliefs.iter().filter(|(target, _)| dependents.has_check(target)) {
            self.verdicts.insert(target.clone(), belief.state);
        }
        self.serving.clear();
    }
}

impl Observed for ObservedState {
    fn availability(&self, service: &Service, backend: &Backend) -> Availability {
        let Some(target) = service.probe_target(backend) else {
            return Availability::Up;
        };
        availability(self.verdicts.get(&target))
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        let hop = self.hops.get(&address).and_then(Resolution::next_hop)?;
        if !self.closed.is_empty() && self.closed.contains_key(&hop.interface_index) {
            return None;
        }
        Some(NextHop {
            interface: hop.interface_index,
            destination_mac: hop.destination_mac,
            source_mac: hop.source_mac,
            mtu: hop.mtu,
            on_link: hop.gateway.is_none(),
            tags: hop.tags,
        })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.hops.get(&address) == Some(&Resolution::Own)
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        &self.sources
    }

    fn only_interface(&self) -> Option<u32> {
        self.only_interface
    }
}

fn availability(verdict: Option<&health::Health>) -> Availability {
    match verdict {
        None | Some(health::Health::Checking) => Availability::Checking,
        Some(health::Health::Up) => Availability::Up,
        Some(health::Health::Down) => Availability::Down,
    }
}

/// What is known, and what is believed besides if a change is made. Nothing is known of what is believed.
pub(super) struct Expected<'a> {
    pub(super) observed: &'a ObservedState,
    pub(super) beliefs: &'a Beliefs,
}

impl Observed for Expected<'_> {
    fn availability(&self, service: &Service, backend: &Backend) -> Availability {
        let belief = || self.beliefs.get(&service.probe_target(backend)?);
        match self.observed.availability(service, backend) {
            Availability::Checking if !self.beliefs.is_empty() => {
                availability(belief().map(|belief| &belief.state))
            }
            known => known,
        }
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        self.observed.next_hop(address)
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.observed.is_own(address)
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        self.observed.tunnel_sources()
    }

    fn only_interface(&self) -> Option<u32> {
        self.observed.only_interface()
    }
}
