//! What the agent knows about the world, for the planner: heartbeats, next hops, interfaces.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use crate::health::{self, Belief, Beliefs};
use crate::netlink::{Need, NextHops, Resolution};
use lb_check::ProbeTarget;
use lb_core::desired::{AdminState, Backend, Forwarder, Service, Services};
use lb_core::plan::{Availability, BackendRef, NextHop, Observed, TunnelSources};

/// The heartbeat of a backend of a service; `None` when it has none. Equal ones are shared: a host that fails leaves
/// all services that check it the same way at once.
pub(super) fn heartbeat(service: &Service, backend: &Backend) -> Option<ProbeTarget> {
    if backend.state == AdminState::Maint {
        return None;
    }
    let port = backend.port.or(service.port.exact()).map_or(0, u16::from);
    ProbeTarget::new(SocketAddr::new(backend.address, port), &service.check_in_use())
}

/// All heartbeats that `services` want.
pub(super) fn heartbeats(services: &Services) -> HashSet<ProbeTarget> {
    each(services)
        .filter_map(|(service, backend)| heartbeat(service, backend))
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
pub(super) fn needs(services: &Services, pool: &[IpAddr]) -> BTreeMap<IpAddr, Need> {
    let need = |(service, backend): (&Service, &Backend)| match backend.forwarder_in_use(service) {
        Forwarder::L2dsr => Some((backend.address, Need::OnLink)),
        Forwarder::Local => Some((backend.address, Need::Own)),
        _ => None,
    };
    let pool = pool.iter().map(|&address| (address, Need::Own));
    each(services).filter_map(need).chain(pool).collect()
}

/// Every backend with its service.
pub(super) fn each(services: &Services) -> impl Iterator<Item = (&Service, &Backend)> {
    services
        .iter()
        .flat_map(|service| service.backends.iter().map(move |backend| (&**service, backend)))
}

/// The present knowledge.
#[derive(Debug)]
pub(super) struct ObservedState {
    /// What is believed of each heartbeat; absent before its first verdict.
    pub(super) verdicts: HashMap<ProbeTarget, health::State>,
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
    /// What `next` is to begin with where nothing is known of its heartbeats: what is known of the one before that asked
    /// the same, and that backends are up which are up by another check, or by the tables. So a change of a check, or
    /// a restart, is no reason to take a backend's flows away at the first failure. For almost all backends, at almost
    /// every change, there is nothing to believe, since they have a verdict.
    pub(super) fn beliefs(&self, services: &Services, next: &Services) -> Beliefs {
        let mut beliefs = Beliefs::new();
        for (service, backend) in each(next) {
            let Some(heartbeat) = heartbeat(service, backend).filter(|heartbeat| !self.is_judged(heartbeat))
            else {
                continue;
            };
            let Some(belief) = self.belief(&heartbeat, services, service, backend) else {
                continue;
            };
            // A heartbeat that several backends share is believed good if any of them serves.
            let first = beliefs.entry(heartbeat).or_insert_with(|| belief.clone());
            if belief.state == health::State::Up && first.state != health::State::Up {
                *first = belief;
            }
        }
        beliefs
    }

    fn belief(
        &self,
        heartbeat: &ProbeTarget,
        services: &Services,
        service: &Service,
        backend: &Backend,
    ) -> Option<Belief> {
        let up = Belief {
            state: health::State::Up,
            after: None,
        };
        if self.serves_by_the_tables(service, backend) {
            return Some(up);
        }
        let service = services.get(&service.name)?;
        let backend = service.backend(backend.id())?;
        let before = self::heartbeat(service, backend);
        let same = before.filter(|before| before.asks_what(heartbeat));
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

    fn is_judged(&self, heartbeat: &ProbeTarget) -> bool {
        let verdict = self.verdicts.get(heartbeat);
        verdict.is_some_and(|state| *state != health::State::Checking)
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

    /// `services` are what heartbeats run for now: what was believed of them is known, and all else is dropped.
    pub(super) fn settle(&mut self, services: &Services, beliefs: &Beliefs) {
        let heartbeats = heartbeats(services);
        let states = beliefs
            .iter()
            .map(|(heartbeat, belief)| (heartbeat.clone(), belief.state));
        self.verdicts.extend(states);
        self.verdicts
            .retain(|heartbeat, _| heartbeats.contains(heartbeat));
        self.serving.clear();
    }
}

impl Observed for ObservedState {
    fn availability(&self, service: &Service, backend: &Backend) -> Availability {
        let Some(heartbeat) = heartbeat(service, backend) else {
            return Availability::Up;
        };
        availability(self.verdicts.get(&heartbeat))
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

fn availability(verdict: Option<&health::State>) -> Availability {
    match verdict {
        None | Some(health::State::Checking) => Availability::Checking,
        Some(health::State::Up) => Availability::Up,
        Some(health::State::Down) => Availability::Down,
    }
}

/// What is known, and what is believed besides if a change is made. Nothing is known of what is believed.
pub(super) struct Expected<'a> {
    pub(super) knowledge: &'a ObservedState,
    pub(super) beliefs: &'a Beliefs,
}

impl Observed for Expected<'_> {
    fn availability(&self, service: &Service, backend: &Backend) -> Availability {
        let belief = || self.beliefs.get(&heartbeat(service, backend)?);
        match self.knowledge.availability(service, backend) {
            Availability::Checking if !self.beliefs.is_empty() => {
                availability(belief().map(|belief| &belief.state))
            }
            known => known,
        }
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        self.knowledge.next_hop(address)
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.knowledge.is_own(address)
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        self.knowledge.tunnel_sources()
    }

    fn only_interface(&self) -> Option<u32> {
        self.knowledge.only_interface()
    }
}
