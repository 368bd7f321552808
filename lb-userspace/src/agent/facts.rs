//! What the agent knows about the world, for the planner: heartbeats, next hops, interfaces.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use crate::{
    health,
    model::{AdminState, Backend, Service, Services},
    netlink::{Resolution, Snapshot},
    plan::{Availability, Facts, NextHop, TunnelSources, Whose},
};

/// The heartbeat of a backend of a service; `None` when it has none. Equal ones are shared: a host that fails leaves
/// all services that check it the same way at once.
pub(super) fn heartbeat(service: &Service, backend: &Backend) -> Option<health::Target> {
    if backend.state == AdminState::Maint {
        return None;
    }
    let port = backend.port.or(service.port.exact()).map_or(0, u16::from);
    health::Target::new(SocketAddr::new(backend.address, port), &service.check_in_use())
}

/// All heartbeats that `services` want.
pub(super) fn heartbeats(services: &Services) -> HashSet<health::Target> {
    each(services)
        .filter_map(|(service, backend)| heartbeat(service, backend))
        .collect()
}

/// All addresses that packets are sent to.
pub(super) fn addresses(services: &Services) -> BTreeSet<IpAddr> {
    each(services).map(|(_, backend)| backend.address).collect()
}

fn each(services: &Services) -> impl Iterator<Item = (&Service, &Backend)> {
    services
        .iter()
        .flat_map(|service| service.backends.iter().map(move |backend| (&**service, backend)))
}

/// The present knowledge.
#[derive(Debug)]
pub(super) struct Knowledge {
    /// The last verdict on each heartbeat; absent before the first.
    pub(super) verdicts: HashMap<health::Target, health::State>,
    /// The next hop of each backend address.
    pub(super) hops: Snapshot,
    pub(super) sources: TunnelSources,
    pub(super) only_interface: Option<u32>,
    /// Backends that served when they were last asked: under another check, or an earlier agent. They are believed in
    /// until something else is learnt.
    pub(super) served: HashSet<Whose>,
    /// Until then the ways to backends are being looked up for the first time.
    pub(super) settling: Option<Instant>,
}

impl Knowledge {
    /// Whether the first look-ups are over as of now.
    pub(super) fn settles(&mut self, now: Instant) -> bool {
        let settles = self.settling.is_some_and(|until| now >= until);
        if settles {
            self.settling = None;
        }
        settles
    }

    fn served(&self, service: &Service, backend: &Backend) -> bool {
        self.served.contains(&Whose {
            service: service.name.clone(),
            backend: backend.id(),
        })
    }
}

impl Facts for Knowledge {
    fn availability(&self, service: &Service, backend: &Backend) -> Availability {
        let Some(heartbeat) = heartbeat(service, backend) else {
            return Availability::Up;
        };
        match self.verdicts.get(&heartbeat) {
            None | Some(health::State::Checking) if self.served(service, backend) => Availability::Up,
            None | Some(health::State::Checking) => Availability::Checking,
            Some(health::State::Up) => Availability::Up,
            Some(health::State::Down) => Availability::Down,
        }
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        let hop = self.hops.get(&address).and_then(Resolution::next_hop)?;
        Some(NextHop {
            interface: hop.interface_index,
            destination_mac: hop.destination_mac,
            source_mac: hop.source_mac,
            mtu: hop.mtu,
            on_link: hop.gateway.is_none(),
        })
    }

    fn way_is_as_before(&self, service: &Service, backend: &Backend) -> bool {
        let unknown = self.settling.is_some() || !self.hops.contains_key(&backend.address);
        unknown && self.served(service, backend)
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        &self.sources
    }

    fn only_interface(&self) -> Option<u32> {
        self.only_interface
    }
}
