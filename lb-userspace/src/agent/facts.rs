//! What the agent knows about the world, for the planner: heartbeats, next hops, interfaces.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use crate::{
    health,
    model::{AdminState, Backend, BackendId, Forwarder, Service, ServiceName, Services},
    netlink::{Need, Resolution, Snapshot},
    plan::{Availability, Facts, NextHop, TunnelSources, Whose, serves},
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
pub(super) struct Knowledge {
    /// The last verdict on each heartbeat; absent before the first.
    pub(super) verdicts: HashMap<health::Target, health::State>,
    /// Backends that an earlier agent gave flows to: they are taken to be up until there is a verdict.
    pub(super) presumed: HashSet<Whose>,
    /// The next hop of each backend address.
    pub(super) hops: Snapshot,
    pub(super) sources: TunnelSources,
    pub(super) only_interface: Option<u32>,
}

impl Knowledge {
    /// Drops what is about heartbeats and backends that `services` do not have, and presumptions that were judged.
    pub(super) fn keep(&mut self, services: &Services) {
        let heartbeats = heartbeats(services);
        self.verdicts
            .retain(|heartbeat, _| heartbeats.contains(heartbeat));
        let verdicts = &self.verdicts;
        self.presumed.retain(|Whose { service, backend }| {
            services.get(service).is_some_and(|service| {
                let heartbeat = service
                    .backend(*backend)
                    .and_then(|backend| heartbeat(service, backend));
                heartbeat.is_some_and(|heartbeat| !verdicts.contains_key(&heartbeat))
            })
        });
    }

    /// Backends that serve and that `next` checks otherwise are taken to be up until the new check says something. Those
    /// that have a verdict already are left alone: that is almost all of them, at every change.
    pub(super) fn presume_serving(&mut self, services: &Services, next: &Services) {
        let asked_anew = |(service, backend): &(&Service, &Backend)| {
            let verdict = heartbeat(service, backend).and_then(|heartbeat| self.verdicts.get(&heartbeat));
            matches!(verdict, None | Some(health::State::Checking))
        };
        let serves = |service: &ServiceName, backend: BackendId| {
            let service = services.get(service)?;
            Some(serves(self, service, service.backend(backend)?))
        };
        let presumed: Vec<Whose> = each(next)
            .filter(asked_anew)
            .filter(|(service, backend)| serves(&service.name, backend.id()) == Some(true))
            .map(|(service, backend)| Whose {
                service: service.name.clone(),
                backend: backend.id(),
            })
            .collect();
        self.presumed.extend(presumed);
    }

    fn presumes(&self, service: &Service, backend: &Backend) -> bool {
        // Almost always empty: nobody is asked to make a name to look up.
        !self.presumed.is_empty()
            && self.presumed.contains(&Whose {
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
            None | Some(health::State::Checking) if self.presumes(service, backend) => Availability::Up,
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
