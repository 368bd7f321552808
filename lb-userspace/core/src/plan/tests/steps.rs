//! What may happen to a balancer: changes of the desired state, and news of the world.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use lb_common::abi::TagsEntry;
use proptest::{collection::vec, prelude::*, sample::select};

use crate::desired::{
    AdminState, Affinity, Backend, BackendPatch, Change, Forwarder, Prefix, Removal, Service, ServiceName,
    ServicePatch, ServicePort, Services, Source, arbitrary,
};
use crate::plan::{Availability, NextHop, Observed, TunnelSources};

/// One thing that happens.
#[expect(clippy::large_enum_variant, reason = "a handful of them live at a time")]
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The operator's desired state changes, if it can.
    Change(Change),
    /// A backend is changed or removed: the service, which of its backends, and to what.
    Touch(ServiceName, usize, Option<BackendPatch>),
    /// A configuration is loaded in which one service serves the same backends differently.
    Rewrite(ServiceName, Front),
    /// Other clients may use a service.
    Permit(ServiceName, Option<Source>),
    /// A health check says so.
    Up(IpAddr, bool),
    /// A way is learnt, changed or lost.
    Hop(IpAddr, Option<NextHop>),
    /// Milliseconds go by.
    Pass(u64),
}

/// How a service may be rewritten; absent parts stay.
#[derive(Clone, Debug)]
pub(super) struct Front {
    vips: Option<Vec<Prefix>>,
    port: Option<ServicePort>,
    forwarder: Option<Forwarder>,
    affinity: Option<Affinity>,
    backends: Option<Vec<Backend>>,
}

impl Front {
    fn applied(self, service: &mut Service) {
        let Self {
            vips,
            port,
            forwarder,
            affinity,
            backends,
        } = self;
        service.vips = vips.unwrap_or(service.vips.clone());
        service.port = port.unwrap_or(service.port);
        service.forwarder = forwarder.unwrap_or(service.forwarder);
        service.affinity = affinity.unwrap_or(service.affinity);
        service.backends = backends.unwrap_or(service.backends.clone());
    }
}

/// The desired state and the facts.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) services: Services,
    down: HashSet<IpAddr>,
    hops: HashMap<IpAddr, Option<NextHop>>,
    sources: TunnelSources,
}

impl Default for World {
    fn default() -> Self {
        Self {
            services: Services::default(),
            down: HashSet::new(),
            hops: HashMap::new(),
            sources: TunnelSources {
                v4: "172.16.0.0/16".parse().unwrap(),
                v6: "2001:db8:7::/96".parse().unwrap(),
            },
        }
    }
}

impl World {
    pub(super) fn take(&mut self, step: Step) {
        let change = match step {
            Step::Change(change) => change,
            Step::Touch(name, index, patch) => {
                let Some(service) = self.services.get(&name) else {
                    return;
                };
                let Some(backend) = service.backends.get(index % service.backends.len().max(1)) else {
                    return;
                };
                match patch {
                    Some(patch) => Change::SetBackend {
                        service: name,
                        backend: backend.id(),
                        patch,
                    },
                    None => Change::RemoveBackend {
                        service: name,
                        backend: backend.id(),
                        removal: Removal::Now,
                    },
                }
            }
            Step::Rewrite(name, front) => {
                let mut list: Vec<Service> = self.services.iter().map(|s| Service::clone(s)).collect();
                let Some(service) = list.iter_mut().find(|s| s.name == name) else {
                    return;
                };
                front.applied(service);
                let Ok(services) = Services::new(list) else { return };
                Change::ReplaceAll(services, Removal::Now)
            }
            Step::Permit(name, source) => {
                let patch = ServicePatch {
                    source: Some(source),
                    ..ServicePatch::default()
                };
                Change::SetService { service: name, patch }
            }
            Step::Up(address, up) => {
                if up {
                    self.down.remove(&address);
                } else {
                    self.down.insert(address);
                }
                return;
            }
            Step::Hop(address, hop) => {
                self.hops.insert(address, hop);
                return;
            }
            Step::Pass(_) => return,
        };
        let change = match change {
            // Lists and backends that change at once are two changes for packets.
            Change::ReplaceAll(new, removal) => Change::ReplaceAll(self.with_present_sources(&new), removal),
            change => change,
        };
        if let Ok(services) = self.services.after(change) {
            self.services = services;
        }
    }

    /// The services in `new`, with the lists of clients that are in use.
    fn with_present_sources(&self, new: &Services) -> Services {
        let kept = |service: &std::sync::Arc<Service>| {
            let present = self.services.get(&service.name);
            Service {
                source: present.and_then(|present| present.source.clone()),
                ..Service::clone(service)
            }
        };
        Services::new(new.iter().map(kept).collect()).expect("lists break no rule")
    }

    /// Whether packets to `vip` may go to `backend` of `service`.
    pub(super) fn takes(&self, service: &Service, vip: IpAddr, backend: &Backend) -> bool {
        backend.state == AdminState::Ready && backend.weight > 0 && self.keeps(service, vip, backend)
    }

    fn reaches(&self, service: &Service, backend: &Backend) -> bool {
        match backend.forwarder_in_use(service) {
            Forwarder::Local => self.is_own(backend.address),
            _ => self.next_hop(backend.address).is_some(),
        }
    }

    /// Whether packets of flows that `backend` has may go on to it.
    pub(super) fn keeps(&self, service: &Service, vip: IpAddr, backend: &Backend) -> bool {
        backend.state != AdminState::Maint
            && !self.down.contains(&backend.address)
            && self.reaches(service, backend)
            && (!backend.forwarder_in_use(service).translates() || vip.is_ipv4() == backend.address.is_ipv4())
    }
}

/// The host part of the balancer's own addresses.
const OWN: u8 = 5;

impl Observed for World {
    fn availability(&self, _: &Service, backend: &Backend) -> Availability {
        if self.down.contains(&backend.address) {
            Availability::Down
        } else {
            Availability::Up
        }
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        match self.hops.get(&address) {
            Some(learnt) => *learnt,
            None => Some(hop(0, 1, 1500)),
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4.octets()[3] == OWN,
            IpAddr::V6(v6) => v6.octets()[15] == OWN,
        }
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        &self.sources
    }

    fn only_interface(&self) -> Option<u32> {
        Some(1)
    }
}

fn hop(mac: u8, interface: u32, mtu: u32) -> NextHop {
    NextHop {
        interface,
        destination_mac: [2, 0, 0, 0, 1, mac],
        source_mac: [2, 0, 0, 0, 2, interface as u8],
        mtu,
        on_link: true,
        tags: TagsEntry::NONE,
    }
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let way =
        (0..3u8, 1..3u32, select(&[1500, 9000])).prop_map(|(mac, interface, mtu)| hop(mac, interface, mtu));
    prop_oneof![
        6 => change().prop_map(Step::Change),
        4 => (arbitrary::name(), 0..6usize, proptest::option::weighted(0.7, backend_patch()))
            .prop_map(|(name, index, patch)| Step::Touch(name, index, patch)),
        4 => (arbitrary::name(), front()).prop_map(|(name, front)| Step::Rewrite(name, front)),
        2 => (arbitrary::name(), proptest::option::weighted(0.8, source()))
            .prop_map(|(name, source)| Step::Permit(name, source)),
        2 => (arbitrary::address(1), any::<bool>()).prop_map(|(address, up)| Step::Up(address, up)),
        3 => (arbitrary::address(1), proptest::option::weighted(0.8, way))
            .prop_map(|(address, hop)| Step::Hop(address, hop)),
        2 => select(&[400, 1100]).prop_map(Step::Pass),
    ]
}

/// Lists that name the clients of the samples, or others.
fn source() -> impl Strategy<Value = Source> {
    let prefixes = [
        "198.51.100.1",
        "198.51.100.0/24",
        "198.51.0.0/16",
        "0.0.0.0/0",
        "2001:db8:c::/48",
        "2001:db8:d::/48",
        "::/0",
    ];
    let list = || proptest::sample::subsequence(prefixes.to_vec(), 0..3);
    (list(), list()).prop_filter_map("names nobody, or somebody twice", |(allow, deny)| {
        let twice = allow.iter().any(|prefix| deny.contains(prefix));
        let parsed = |list: Vec<&str>| list.iter().map(|text| text.parse().expect(text)).collect();
        let source = Source {
            allow: parsed(allow),
            deny: parsed(deny),
        };
        (!twice && !source.is_empty()).then_some(source)
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => service().prop_map(Change::AddService),
        1 => arbitrary::name().prop_map(|service| Change::RemoveService { service }),
        2 => (arbitrary::name(), service_patch()).prop_map(|(service, patch)| Change::SetService { service, patch }),
        3 => (arbitrary::name(), arbitrary::backend())
            .prop_map(|(service, backend)| Change::AddBackend { service, backend }),
        2 => vec(service(), 0..5).prop_filter_map("a list that breaks no rule", |list| {
            Services::new(list)
                .ok()
                .map(|services| Change::ReplaceAll(services, Removal::Now))
        }),
    ]
}

/// With more backends, and slot tables that a test can look through.
fn service() -> impl Strategy<Value = Service> {
    (arbitrary::service(), backends()).prop_map(|(service, backends)| Service {
        slots: service.slots.map(|slots| slots.min(256)),
        backends,
        ..service
    })
}

/// A few backends, each once.
fn backends() -> impl Strategy<Value = Vec<Backend>> {
    vec(arbitrary::backend(), 0..12).prop_map(|mut backends| {
        let mut seen = HashSet::new();
        backends.retain(|backend| seen.insert(backend.address));
        for backend in &mut backends {
            // Mostly without a port of their own, and with weights that leave each some slots.
            backend.port = backend.port.filter(|_| backend.weight % 8 == 0);
            backend.weight = backend.weight % 4 + u16::from(backend.weight % 16 != 0);
            if backend.weight % 3 != 0 {
                backend.state = AdminState::Ready;
            }
        }
        backends
    })
}

fn front() -> impl Strategy<Value = Front> {
    use proptest::option::weighted;
    let vips = weighted(0.4, vec(arbitrary::vip(), 1..3));
    let forwarder = select(&[Forwarder::L2dsr, Forwarder::Ipip, Forwarder::Nat]);
    let affinity = select(&[Affinity::Flow, Affinity::ClientIp]);
    (
        vips,
        weighted(0.3, arbitrary::service_port()),
        weighted(0.2, forwarder),
        weighted(0.2, affinity),
        weighted(0.4, backends()),
    )
        .prop_map(|(vips, port, forwarder, affinity, backends)| Front {
            vips,
            port,
            forwarder,
            affinity,
            backends,
        })
}

fn service_patch() -> impl Strategy<Value = ServicePatch> {
    service().prop_map(|service| ServicePatch {
        vips: Some(service.vips),
        affinity: Some(service.affinity),
        on_empty: Some(service.on_empty),
        ..ServicePatch::default()
    })
}

fn backend_patch() -> impl Strategy<Value = BackendPatch> {
    let state = select(&[AdminState::Ready, AdminState::Drain, AdminState::Maint]);
    (proptest::option::of(0..5u16), proptest::option::of(state)).prop_map(|(weight, state)| BackendPatch {
        weight,
        state,
        ..BackendPatch::default()
    })
}
