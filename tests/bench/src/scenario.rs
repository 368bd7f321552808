//! The services that the balancer is measured with, and the balancer loaded with them.
//!
//! What must hold: the tables are filled as the agent fills them, by its own planner. Only what the agent would learn
//! from the network, health checks and next hops, is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    time::{Duration, Instant},
};

use anyhow::Result;
use lb_check::{Check, Kind, NoCheck};
use lb_common::abi::{FlowValue, Reason, Slot, SlotLine, TagsEntry, TrackingCounters};
use lb_core::desired::{
    Backend, BackendId, Dependents, Forwarder, Protocol, Quic, QuicConfig, Service, ServicePort, Services,
    Source, Vlan,
};
use lb_core::observed::InterfaceMacs;
use lb_core::plan::{
    self, Availability, Capacity, Layout, MacTable, Memory as _, NextHop, Observed, Plan, ReadBack as _,
    TunnelSources,
};
use lb_userspace::config;
use lb_userspace::dataplane::{Dataplane, MappedTables, Settings};

use super::frame::OWN_MAC;

/// MAC address of every backend.
const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
/// Where the backends' addresses begin.
pub(super) const BACKENDS4: u32 = 0x0a80_0001;
const BACKENDS6: u128 = 0xfd00_0000_0000_0000_0000_0000_0000_0001;
/// The way to the backends takes a whole Ethernet frame of the longest header.
const MTU: u32 = 9000;
/// Entries of the flow table: the agent's default.
const FLOWS: u32 = 1 << 20;
/// Seed of the flow hash: the same in every run.
const SEED: u64 = 0x6c62_2d62_656e_6368;

/// Equal services with backends of their own.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    /// The first service's VIP; the others' follow it.
    pub(super) vip: IpAddr,
    pub(super) port: ServicePort,
    pub(super) protocol: Protocol,
    pub(super) forwarder: Forwarder,
    pub(super) services: u32,
    /// Of each service.
    pub(super) backends: u32,
    /// Whether all services have the same backends.
    pub(super) shared: bool,
    pub(super) backend_port: Option<u16>,
    /// The tags of frames to backends.
    pub(super) vlan: Option<Vlan>,
    /// Who may use the services, if not everybody.
    pub(super) source: Option<Source>,
    /// How connection IDs name backends, each of which has its number as its server ID.
    pub(super) quic: Option<QuicConfig>,
    /// The ports of one more service of the first VIP, which gets no frames.
    pub(super) beside: Option<ServicePort>,
    /// Whether all slots have just changed hands, so that every flow is looked up.
    pub(super) moved: bool,
}

impl Scenario {
    /// One TCP service with a hundred backends, reached by `ipip`.
    pub(super) fn one(front: SocketAddr) -> Self {
        Self {
            vip: front.ip(),
            port: NonZeroU16::new(front.port()).map_or(ServicePort::Any, ServicePort::Exact),
            protocol: Protocol::Tcp,
            forwarder: Forwarder::Ipip,
            services: 1,
            backends: 100,
            shared: false,
            backend_port: None,
            vlan: None,
            source: None,
            quic: None,
            beside: None,
            moved: false,
        }
    }

    /// One TCP service as in [`Self::one`], all of whose slots have just changed hands.
    pub(super) fn moved(front: SocketAddr) -> Self {
        Self {
            moved: true,
            ..Self::one(front)
        }
    }

    /// The services, as an operator would declare them.
    pub(super) fn services(&self) -> Result<Services> {
        let services = (0..self.services).map(|number| self.service(number));
        let beside = self.beside.map(|port| {
            Ok(Service {
                vips: vec![self.vip.into()],
                port,
                ..self.service(self.services)?
            })
        });
        Ok(Services::new(services.chain(beside).collect::<Result<_>>()?)?)
    }

    /// How many services there are.
    fn count(&self) -> u32 {
        self.services + u32::from(self.beside.is_some())
    }

    fn service(&self, number: u32) -> Result<Service> {
        let first = if self.shared { 0 } else { number * self.backends };
        let backends = (0..self.backends).map(|i| self.backend(first + i));
        let name = format!("service-{number}").parse()?;
        let vips = vec![offset(self.vip, number).into()];
        Ok(Service {
            check: Some(Check {
                kind: Kind::None(NoCheck),
                ..Check::default()
            }),
            source: self.source.clone(),
            backends: backends.collect::<Result<_>>()?,
            quic: self.quic.clone().map(|config| Quic {
                configs: vec![config],
            }),
            ..Service::new(name, vips, self.protocol, self.port, self.forwarder)
        })
    }

    fn backend(&self, number: u32) -> Result<Backend> {
        let first = if self.vip.is_ipv4() {
            Ipv4Addr::from(BACKENDS4).into()
        } else {
            Ipv6Addr::from(BACKENDS6).into()
        };
        let id = BackendId {
            address: offset(first, number),
            port: self.backend_port.and_then(NonZeroU16::new),
        };
        let server_id = self.quic.as_ref().map(|_| format!("{number:08x}").parse());
        Ok(Backend {
            vlan: self.vlan,
            server_id: server_id.transpose()?,
            ..Backend::new(id)
        })
    }
}

fn offset(first: IpAddr, by: u32) -> IpAddr {
    match first {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4).wrapping_add(by)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6).wrapping_add(by.into())).into(),
    }
}

/// All backends are one hop away, and up but for one.
#[derive(Debug)]
pub(super) struct Neighbours {
    sources: TunnelSources,
    interface: u32,
    down: Option<IpAddr>,
}

impl Neighbours {
    /// On that interface, the only one.
    pub(super) fn on(interface: u32) -> Self {
        let config::DataplaneConfig {
            tunnel_source_v4,
            tunnel_source_v6,
            ..
        } = config::DataplaneConfig::default();
        Self {
            sources: TunnelSources {
                v4: tunnel_source_v4,
                v6: tunnel_source_v6,
            },
            interface,
            down: None,
        }
    }
}

impl Observed for Neighbours {
    fn availability(&self, _: &Service, backend: &Backend) -> Availability {
        if self.down == Some(backend.address) {
            Availability::Down
        } else {
            Availability::Up
        }
    }

    fn next_hop(&self, _: IpAddr) -> Option<NextHop> {
        Some(NextHop {
            interface: self.interface,
            destination_mac: BACKEND_MAC,
            source_mac: OWN_MAC,
            mtu: MTU,
            on_link: true,
            tags: TagsEntry::NONE,
        })
    }

    fn is_own(&self, _: IpAddr) -> bool {
        // Only asked about backends of the local forwarder.
        true
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        &self.sources
    }

    fn only_interface(&self) -> Option<u32> {
        Some(self.interface)
    }
}

/// The address that `fullnat` backends are reached from.
const POOL4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

/// The balancer's program in the kernel, with its tables filled.
pub(super) struct Balancer {
    pub(super) dataplane: Dataplane,
    tables: MappedTables,
    layout: Layout,
    capacity: Capacity,
    services: Services,
    dependents: Dependents,
    observed: Neighbours,
    moved: bool,
}

/// What an agent would tell the program of that interface.
fn macs(interface: u32) -> MacTable {
    let macs = InterfaceMacs {
        own: OWN_MAC,
        others: BTreeSet::new(),
        master: None,
    };
    MacTable::new(&BTreeMap::from([(interface, macs)]), &[])
}

impl Balancer {
    /// Loads the program and applies the plan for `scenario`.
    pub(super) fn load(scenario: &Scenario, interface: u32) -> Result<Self> {
        let observed = Neighbours::on(interface);
        let services = scenario.services()?;
        let slots = plan::pools(&services, &observed)
            .iter()
            .map(|pool| pool.slots)
            .sum();
        let capacity = Capacity {
            services: scenario.count(),
            targets: scenario.count() * scenario.backends,
            slots,
            flows: FLOWS,
            nat_flows: 4096,
        };
        let mut dependents = Dependents::default();
        dependents.change(&Services::default(), &services);
        let mut dataplane = Dataplane::load(&capacity, SEED, Settings::default())?;
        dataplane.set_macs(&macs(interface))?;
        if scenario.forwarder == Forwarder::Fullnat {
            dataplane.set_source_pools(&[POOL4.into()], 1024..=32_767)?;
        }
        let mut balancer = Self {
            tables: dataplane.tables()?,
            dataplane,
            layout: Layout::new(capacity, SEED),
            capacity,
            dependents,
            services,
            observed,
            moved: scenario.moved,
        };
        balancer.bring_in_line()?;
        if scenario.moved {
            balancer.move_all_slots(scenario.backends);
        }
        Ok(balancer)
    }

    /// Makes every slot migrating, with the next backend as its previous owner. Only for scenarios of one service.
    fn move_all_slots(&mut self, backends: u32) {
        let before = |slot: &Slot| {
            let owner = slot.owner().unwrap_or_default();
            Slot::owned_by(((owner + 1) % backends) as u16)
        };
        for line in 0..self.capacity.slot_lines() {
            let SlotLine(current) = self.tables.read_slots(line);
            self.tables.write_previous(line, &current.each_ref().map(before));
            self.tables
                .write_slots(line, &current.map(|slot| slot.with_flag(true)));
        }
    }

    /// Empties the flow table. How many entries it had.
    pub(super) fn forget_flows(&mut self) -> u64 {
        let mut forgotten = 0;
        self.tables.visit_flows(&mut |_, _| {
            forgotten += 1;
            Some(FlowValue::FREE)
        });
        forgotten
    }

    /// Packets whose flow was found in the flow table, or written down there.
    fn tracked(&self) -> Result<u64> {
        let TrackingCounters {
            hits,
            inserted,
            adopted,
            ..
        } = self.dataplane.counters()?.tracking(0)?;
        Ok(hits + inserted + adopted)
    }

    /// Learns that the first backend is down, or up again, and does what the agent does then. How long that took.
    pub(super) fn learn(&mut self, down: bool) -> Result<Duration> {
        let start = Instant::now();
        let first = self.services.iter().flat_map(|service| &service.backends).next();
        self.observed.down = first.map(|backend| backend.address).filter(|_| down);
        let names = first.map(|backend| self.dependents.of_address(&backend.address));
        let names: Vec<_> = names.into_iter().flatten().cloned().collect();
        let delta = self.layout.pools_of(&names, &self.services, &self.observed);
        let plan = self.layout.plan_delta(delta, 1, Instant::now())?;
        self.carry_out(plan);
        Ok(start.elapsed())
    }

    fn bring_in_line(&mut self) -> Result<()> {
        let pools = self.layout.pools(&self.services, &self.observed);
        let plan = self.layout.plan(pools, 1, Instant::now())?;
        self.carry_out(plan);
        Ok(())
    }

    fn carry_out(&mut self, plan: Plan) {
        let Plan { layout, writes, .. } = plan;
        plan::apply(&writes, &mut self.tables);
        self.layout = layout;
    }

    /// How many frames left for that reason, by the balancer's own counters.
    pub(super) fn counted(&self, reason: Reason) -> Result<u64> {
        let counters = self.dataplane.counters()?;
        let per_target = |packets: fn(lb_common::abi::TargetCounters) -> u64| {
            (0..self.capacity.target_cells())
                .map(|cell| counters.target(cell).map(packets))
                .sum()
        };
        match reason {
            Reason::Forwarded if self.moved => self.tracked(),
            Reason::Forwarded | Reason::Local => per_target(|count| count.packets),
            Reason::Returned => per_target(|count| count.returned_packets),
            other => counters.reason(other),
        }
    }
}
