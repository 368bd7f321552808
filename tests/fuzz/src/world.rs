//! What the packets meet: the services of `world.toml`, and where their backends and clients are.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::Path,
    time::Instant,
};

use anyhow::Result;
use lb_common::abi::TagsEntry;
use lb_core::desired::{AdminState, Backend, BackendId, Forwarder, Prefix, Service, Services, Vlan};
use lb_core::plan::{
    Availability, Capacity, Layout, Memory, NextHop, Observed, Plan, Pool, TunnelSources, apply, pools,
};
use lb_packets::Mac;
use lb_userspace::config::{Config, DataplaneConfig};

use super::flaw::Flaw;

/// The flow hash's seed.
pub(super) const SEED: u64 = 0x5eed_0f5e_ed0f_5eed;
/// The MAC of every interface of the balancer.
pub(super) const OWN_MAC: Mac = [2, 0, 0, 0, 0, 0xaa];
/// Other MACs of the balancer: of a device on its front interface, and of a virtual router (RFC 9568 §7.3).
pub(super) const UPPER_MAC: Mac = [2, 0, 0, 0, 1, 0xaa];
pub(super) const VIRTUAL_MAC: Mac = [0, 0, 0x5e, 0, 1, 0x0a];
/// The router's, behind which every client lives.
pub(super) const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 0xcc];
/// The balancer's own addresses on its front interface, and the router's there.
pub(super) const OWN4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(super) const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1);
pub(super) const OWN: [IpAddr; 2] = [IpAddr::V4(OWN4), IpAddr::V6(OWN6)];
pub(super) const ROUTER: [&str; 2] = ["198.18.0.2", "2001:db8:99::2"];
/// Prefixes that the outer source addresses of tunnels are of.
const TUNNEL_SOURCES: [&str; 2] = ["172.16.0.0/16", "2001:db8:7::/96"];
/// The backend without a next hop, by the last byte of its address.
const UNRESOLVED: u8 = 0xd1;
/// The backend that is the balancer.
const HERE: u8 = 0xe0;
/// The backend behind the second interface.
const BEHIND_BACK: u8 = 0xb0;
/// Backends behind a link of a small MTU, and that MTU.
const SMALL: RangeInclusive<u8> = 0x60..=0x6f;
const SMALL_MTU: u32 = 600;
const MTU: u32 = 1500;
/// Clients behind tags: their networks, and what frames to them carry and may be long.
pub(super) const TAGGED: [&str; 2] = ["100.96.0.0/11", "2001:db8:d:2::/64"];
pub(super) const TAGGED_VLANS: [u16; 2] = [200, 300];
pub(super) const TAGGED_MTU: u32 = 1400;

/// The balancer's interfaces, by index.
#[derive(Clone, Copy, Debug)]
pub struct Interfaces {
    /// Where packets come in, and where clients and most backends are.
    pub front: u32,
    /// Where one backend is.
    pub back: u32,
    /// What stands for a VLAN device on the front interface.
    pub tagged: u32,
}

/// Addresses and ports that `fullnat` backends see.
#[derive(Clone, Debug)]
pub struct SourcePool {
    /// The addresses, of both families.
    pub addresses: Vec<IpAddr>,
    /// The ports of each.
    pub ports: RangeInclusive<u16>,
}

impl SourcePool {
    /// A pool with no more places is searched whole before a flow is refused.
    pub(super) const SEARCHED: usize = 16;

    fn new(dataplane: &DataplaneConfig) -> Self {
        let ports = dataplane.fullnat_ports;
        Self {
            addresses: dataplane.fullnat_addresses.clone(),
            ports: ports.first().get()..=ports.last().get(),
        }
    }

    /// How many flows of that family can reach the same port of a backend.
    pub(super) fn places(&self, v6: bool) -> usize {
        let addresses = self.addresses.iter().filter(|address| address.is_ipv6() == v6);
        addresses.count() * self.ports.len()
    }

    /// Whether that is a place of it; a port of 0 may be any.
    pub(super) fn holds(&self, place: SocketAddr) -> bool {
        self.addresses.contains(&place.ip()) && (place.port() == 0 || self.ports.contains(&place.port()))
    }
}

/// The services, as pools of the planner: what the tables mean.
#[derive(Debug)]
pub struct World {
    /// Who serves which VIPs, and which of them each slot belongs to.
    pub pools: Vec<Pool>,
    /// The same before some services changed, so that their slots' flows are looked up.
    before: Vec<Pool>,
    places: Places,
    sources: SourcePool,
}

impl World {
    /// Table sizes.
    pub const CAPACITY: Capacity = Capacity {
        services: 64,
        targets: 128,
        slots: 16_384,
        flows: 65_536,
        nat_flows: 4096,
    };

    /// The world, with those interfaces.
    ///
    /// # Errors
    /// When `world.toml` is no configuration.
    pub fn new(interfaces: Interfaces) -> Result<Self> {
        let config = Config::parse(include_str!("world.toml"), Path::new("world.toml"))?;
        let places = Places::new(interfaces)?;
        let earlier = config.services.iter().map(|service| earlier(service));
        let before = pools(&Services::new(earlier.collect())?, &places);
        let Plan { layout, .. } =
            Layout::new(Self::CAPACITY, SEED).plan(before.clone(), 1, Instant::now())?;
        Ok(Self {
            pools: layout.pools(&config.services, &places),
            before,
            places,
            sources: SourcePool::new(&config.dataplane),
        })
    }

    /// Lays it out in `memory`, by the planner, but for the flaw.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn lay_out(&self, memory: &mut impl Memory, flaw: Option<Flaw>) -> Result<Layout> {
        let mut layout = Layout::new(Self::CAPACITY, SEED);
        for (generation, pools) in (1..).zip([&self.before, &self.pools]) {
            let plan = layout.plan(pools.clone(), generation, Instant::now())?;
            layout = plan.layout;
            let mut writes = plan.writes;
            if let Some(flaw) = flaw {
                flaw.spoil(&mut writes);
            }
            apply(&writes, memory);
        }
        Ok(layout)
    }

    /// Where a pool stands among [`World::pools`].
    pub fn number(&self, pool: &Pool) -> usize {
        let number = self.pools.iter().position(|other| other.key == pool.key);
        number.unwrap_or(self.pools.len())
    }

    /// Whose a pool's slot is, and whose it was before.
    pub fn owners(&self, pool: &Pool, slot: usize) -> Option<[BackendId; 2]> {
        let owner = |pool: &Pool| {
            let owner = *pool.owners.as_ref()?.get(slot)?;
            Some(pool.members[usize::from(owner)].id)
        };
        let before = self.before.iter().find(|other| other.key == pool.key);
        let current = owner(pool)?;
        Some([current, before.and_then(owner).unwrap_or(current)])
    }

    /// Where packets to that backend go next.
    pub fn next_hop(&self, backend: IpAddr) -> Option<NextHop> {
        self.places.next_hop(backend)
    }

    /// What a packet to that client may be long, and the tags that it carries there.
    pub fn way_to_client(&self, client: IpAddr) -> (usize, Option<Vlan>) {
        if !is_tagged(client) {
            return (MTU as usize, None);
        }
        let [outer, inner] = TAGGED_VLANS;
        (TAGGED_MTU as usize, format!("{outer}.{inner}").parse().ok())
    }

    /// Whether that is a VIP of a service whose backends see other clients than there are.
    pub fn hides(&self, vip: IpAddr) -> bool {
        let mut hiding = self
            .pools
            .iter()
            .filter(|pool| pool.service.uses(Forwarder::Fullnat));
        hiding.any(|pool| pool.vips.iter().any(|prefix| prefix.contains(vip)))
    }

    /// Where `fullnat` flows come from, in their backends' eyes.
    pub fn source_pool(&self) -> &SourcePool {
        &self.sources
    }

    /// Where outer source addresses of tunnels are taken from.
    pub fn tunnel_sources(&self) -> &TunnelSources {
        &self.places.sources
    }

    /// The balancer's interfaces.
    pub fn interfaces(&self) -> Interfaces {
        self.places.interfaces
    }
}

/// Whether that address is a host's somewhere behind a router, so that the way there is known.
pub(super) fn is_ordinary(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(
            v4.octets(),
            [0 | 127 | 224.., ..] | [169, 254, ..] | [198, 18, ..]
        ),
        IpAddr::V6(v6) => {
            v6.segments()[0] >> 13 == 1 && !matches!(v6.segments(), [0x2001, 0xdb8, 0x98 | 0x99, ..])
        }
    }
}

/// Whether that client is behind tags.
pub(super) fn is_tagged(client: IpAddr) -> bool {
    let holds = |network: &str| {
        network
            .parse()
            .is_ok_and(|network: Prefix| network.contains(client))
    };
    TAGGED.into_iter().any(holds)
}

/// A service as it was before it changed, by its name.
fn earlier(service: &Service) -> Service {
    let mut service = service.clone();
    if service.name.as_str().starts_with("moved") {
        service.backends.truncate(2);
        for backend in &mut service.backends {
            backend.state = AdminState::Ready;
        }
    }
    service
}

#[derive(Debug)]
struct Places {
    interfaces: Interfaces,
    sources: TunnelSources,
}

impl Places {
    fn new(interfaces: Interfaces) -> Result<Self> {
        let [v4, v6] = TUNNEL_SOURCES;
        let sources = TunnelSources {
            v4: v4.parse()?,
            v6: v6.parse()?,
        };
        Ok(Self { interfaces, sources })
    }
}

impl Observed for Places {
    fn availability(&self, _: &Service, _: &Backend) -> Availability {
        Availability::Up
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        let Interfaces { front, back, .. } = self.interfaces;
        let last = last_byte(address);
        (last != UNRESOLVED).then_some(NextHop {
            interface: if last == BEHIND_BACK { back } else { front },
            destination_mac: [2, 0, 0, 0, u8::from(address.is_ipv6()), last],
            source_mac: OWN_MAC,
            mtu: if SMALL.contains(&last) { SMALL_MTU } else { MTU },
            on_link: true,
            tags: TagsEntry::NONE,
        })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        last_byte(address) == HERE
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        &self.sources
    }

    fn only_interface(&self) -> Option<u32> {
        None
    }
}

fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}
