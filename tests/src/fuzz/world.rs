//! What the packets meet: the services of `world.toml`, and where their backends and clients are.

use std::{net::IpAddr, path::Path, time::Instant};

use anyhow::Result;
use lb_common::abi::Tags;
use lb_userspace::{
    config::Config,
    model::{Backend, Service, Services},
    plan::{Availability, Capacity, Facts, Layout, Memory, NextHop, Plan, Pool, TunnelSources, apply, pools},
};

use crate::packets::Mac;

/// The flow hash's seed.
pub(super) const SEED: u64 = 0x5eed_0f5e_ed0f_5eed;
/// The MAC of every interface of the balancer.
pub(super) const OWN_MAC: Mac = [2, 0, 0, 0, 0, 0xaa];
/// The router's, behind which every client lives.
pub(super) const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 0xcc];
/// The balancer's own addresses on its front interface, and the router's there.
pub(super) const OWN: [&str; 2] = ["198.18.0.1", "2001:db8:99::1"];
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
const SMALL: std::ops::RangeInclusive<u8> = 0x60..=0x6f;
const SMALL_MTU: u32 = 600;
const MTU: u32 = 1500;

/// The balancer's interfaces, by index.
#[derive(Clone, Copy, Debug)]
pub struct Interfaces {
    /// Where packets come in, and where clients and most backends are.
    pub front: u32,
    /// Where one backend is.
    pub back: u32,
}

/// The services, as pools of the planner: what the tables mean.
#[derive(Debug)]
pub struct World {
    /// Who serves which VIPs, and which of them each slot belongs to.
    pub pools: Vec<Pool>,
    places: Places,
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
        let pools = wanted(&config.services, &places);
        Ok(Self { pools, places })
    }

    /// Lays it out in `memory`, by the planner.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn lay_out(&self, memory: &mut impl Memory) -> Result<Layout> {
        let empty = Layout::new(Self::CAPACITY, SEED);
        let Plan { layout, writes } = empty.plan(self.pools.clone(), 1, Instant::now())?;
        apply(&writes, memory);
        Ok(layout)
    }

    /// Where packets to that backend go next.
    pub fn next_hop(&self, backend: IpAddr) -> Option<NextHop> {
        self.places.next_hop(backend)
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

fn wanted(services: &Services, places: &Places) -> Vec<Pool> {
    pools(services, places)
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

impl Facts for Places {
    fn availability(&self, _: &Service, _: &Backend) -> Availability {
        Availability::Up
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        let Interfaces { front, back } = self.interfaces;
        let last = last_byte(address);
        (last != UNRESOLVED).then_some(NextHop {
            interface: if last == BEHIND_BACK { back } else { front },
            destination_mac: [2, 0, 0, 0, u8::from(address.is_ipv6()), last],
            source_mac: OWN_MAC,
            mtu: if SMALL.contains(&last) { SMALL_MTU } else { MTU },
            on_link: true,
            tags: Tags::NONE,
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
