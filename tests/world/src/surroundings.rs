//! The balancer's interfaces, and where its backends and clients are.

use std::{net::IpAddr, ops::RangeInclusive};

use anyhow::Result;
use lb_common::{abi::TagsEntry, pipeline::Route};
use lb_core::desired::{Backend, Service};
use lb_core::observed::InterfaceMacs;
use lb_core::plan::{Availability, MacTable, NextHop, Observed, TunnelSources};
use lb_packets::Mac;

/// The MAC of every interface of the balancer.
pub const OWN_MAC: Mac = [2, 0, 0, 0, 0, 0xaa];
/// The MAC of a device on the balancer's front interface, a macvlan for example.
pub const UPPER_MAC: Mac = [2, 0, 0, 0, 1, 0xaa];
/// The MAC of a virtual router (RFC 9568 §7.3) that the operator has named.
pub const VIRTUAL_MAC: Mac = [0, 0, 0x5e, 0, 1, 0x0a];
/// The MAC of the router behind which every client lives.
pub const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 0xcc];
/// The backend behind the second interface, by the last byte of its address.
pub const BEHIND_BACK: u8 = 0xb0;
/// The MTU of the link to some backends.
pub const SMALL_MTU: u32 = 600;

/// The backend that is never up, by the last byte of its address.
const DOWN: u8 = 0xd0;
/// The backend without a next hop, by the last byte of its address.
const UNRESOLVED: u8 = 0xd1;
/// The backend that is the balancer, by the last byte of its address.
const HERE: u8 = 0xe0;
/// Backends behind the link of [`SMALL_MTU`], by the last byte of their addresses.
const BEHIND_SMALL_LINK: RangeInclusive<u8> = 0x60..=0x6f;
const MTU: u32 = 1500;

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

/// What an agent would observe: next hops and availability, which the last byte of a backend's address decides.
#[derive(Clone, Debug)]
pub struct Surroundings {
    interfaces: Interfaces,
    tunnel_sources: TunnelSources,
}

impl Surroundings {
    /// Surroundings with those interfaces, and the prefixes that outer source addresses of tunnels are of, IPv4 first.
    ///
    /// # Errors
    /// When a text is no prefix.
    pub fn new(interfaces: Interfaces, [v4, v6]: [&str; 2]) -> Result<Self> {
        let tunnel_sources = TunnelSources {
            v4: v4.parse()?,
            v6: v6.parse()?,
        };
        Ok(Self {
            interfaces,
            tunnel_sources,
        })
    }

    /// The balancer's interfaces.
    pub const fn interfaces(&self) -> Interfaces {
        self.interfaces
    }
}

impl Observed for Surroundings {
    fn availability(&self, _: &Service, backend: &Backend) -> Availability {
        match last_byte(backend.address) {
            DOWN => Availability::Down,
            _ => Availability::Up,
        }
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        let Interfaces { front, back, .. } = self.interfaces;
        let last = last_byte(address);
        let is_small = BEHIND_SMALL_LINK.contains(&last);
        (last != UNRESOLVED).then_some(NextHop {
            interface: if last == BEHIND_BACK { back } else { front },
            destination_mac: backend_mac(address),
            source_mac: OWN_MAC,
            mtu: if is_small { SMALL_MTU } else { MTU },
            on_link: true,
            tags: TagsEntry::NONE,
        })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        last_byte(address) == HERE
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        &self.tunnel_sources
    }

    fn only_interface(&self) -> Option<u32> {
        None
    }
}

/// The MAC that packets to a backend are sent to.
pub fn backend_mac(backend: IpAddr) -> Mac {
    [2, 0, 0, 0, u8::from(backend.is_ipv6()), last_byte(backend)]
}

/// The MACs that frames to the balancer bear at its front interface.
pub fn macs(interfaces: Interfaces) -> MacTable {
    let front = InterfaceMacs {
        own: OWN_MAC,
        others: [UPPER_MAC].into(),
        master: None,
    };
    MacTable::new(&[(interfaces.front, front)].into(), &[VIRTUAL_MAC.into()])
}

/// The route of a packet that leaves to the router, by that interface and behind those tags.
pub fn to_router(egress: u32, tags: TagsEntry) -> Route {
    let [r0, r1, r2, r3, r4, r5] = ROUTER_MAC;
    let [o0, o1, o2, o3, o4, o5] = OWN_MAC;
    Route::Hop {
        macs_head: u64::from_ne_bytes([r0, r1, r2, r3, r4, r5, o0, o1]),
        macs_tail: u32::from_ne_bytes([o2, o3, o4, o5]),
        egress,
        tags,
    }
}

fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}
