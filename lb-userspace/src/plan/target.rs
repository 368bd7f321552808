//! Filling in a target's line: everything a packet needs on its way to one backend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use lb_common::{
    abi::{Forward, Tags, Target},
    net::checksum,
};

use super::adopt::ReadBack;
use crate::model::{Backend, Forwarder, Service};

/// The way to a backend, as the kernel's routing and neighbour tables have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface index to send out of.
    pub interface: u32,
    /// MAC of the next hop.
    pub destination_mac: [u8; 6],
    /// MAC of the interface.
    pub source_mac: [u8; 6],
    /// Largest IP packet that the way carries.
    pub mtu: u32,
    /// Whether the next hop is the backend itself, not a gateway.
    pub on_link: bool,
}

/// The prefixes from which tunnels take their outer source address; the bits behind the prefix (the last 32 at most)
/// vary with the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelSources {
    /// For backends with IPv4 addresses.
    pub v4: Ipv4Net,
    /// For backends with IPv6 addresses.
    pub v6: Ipv6Net,
}

/// What maps `TARGETS` and `TAGS` hold of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetEntry {
    /// All but the tags.
    pub target: Target,
    /// The VLAN tags; [`Target::tags`] says whether there are any.
    pub tags: Tags,
}

impl TargetEntry {
    /// The entry of that index.
    pub(super) fn read(memory: &impl ReadBack, index: u32) -> Self {
        Self {
            target: memory.read_target(index),
            tags: memory.read_tags(index),
        }
    }

    /// Whether packets on their way may meet some of both.
    pub(super) fn differs_in_macs_only(&self, new: &Self) -> bool {
        let target = Target {
            macs_head: new.target.macs_head,
            macs_tail: new.target.macs_tail,
            ..self.target
        };
        (target, self.tags) == (new.target, new.tags)
    }
}

/// An address in the form of [`Target::addresses`].
pub(super) fn wide(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(v4) => [u64::from(u32::from_ne_bytes(v4.octets())), 0],
        IpAddr::V6(v6) => {
            let [a, b] = bytemuck::cast::<[u8; 16], [[u8; 8]; 2]>(v6.octets());
            [u64::from_ne_bytes(a), u64::from_ne_bytes(b)]
        }
    }
}

/// The line for `backend` of `service` over `hop`. For `nat`, `vip` is the VIP of the backend's family.
pub(super) fn encode(
    service: &Service,
    vip: Option<IpAddr>,
    backend: &Backend,
    hop: &NextHop,
    sources: &TunnelSources,
) -> TargetEntry {
    let [d0, d1, d2, d3, d4, d5] = hop.destination_mac;
    let [s0, s1, s2, s3, s4, s5] = hop.source_mac;
    let mut target = Target {
        macs_head: u64::from_ne_bytes([d0, d1, d2, d3, d4, d5, s0, s1]),
        macs_tail: u32::from_ne_bytes([s2, s3, s4, s5]),
        egress: hop.interface,
        max_len: u16::try_from(hop.mtu).unwrap_or(u16::MAX),
        ..Target::default()
    };
    match backend.forwarder_in_use(service) {
        Forwarder::L2dsr => target.forward = Forward::L2dsr as u8,
        Forwarder::Ipip => match backend.address {
            IpAddr::V4(address) => tunnel4(&mut target, address, sources.v4),
            IpAddr::V6(address) => tunnel6(&mut target, address, sources.v6),
        },
        Forwarder::Nat => {
            if let Some(vip) = vip {
                nat(&mut target, service, vip, backend);
            }
        }
        // Without a form in the dataplane it is as if the way were unknown.
        Forwarder::Gue | Forwarder::Fou | Forwarder::Gre | Forwarder::Fullnat | Forwarder::Local => {
            target = Target::default();
        }
    }
    TargetEntry {
        target,
        tags: Tags::NONE,
    }
}

fn tunnel4(target: &mut Target, destination: Ipv4Addr, sources: Ipv4Net) {
    const HEADER: u16 = 20;
    let source = u32::from_ne_bytes(sources.network().octets());
    let destination = u32::from_ne_bytes(destination.octets());
    target.forward = Forward::Ipip4 as u8;
    target.addresses[Target::OUTER_SOURCE][0] = u64::from(source);
    target.addresses[Target::OUTER_DESTINATION][0] = u64::from(destination);
    target.header_sum = checksum::halves(source) + checksum::halves(destination);
    target.variation = u32::from_ne_bytes(sources.hostmask().octets());
    target.max_len = target.max_len.saturating_sub(HEADER);
}

fn tunnel6(target: &mut Target, destination: Ipv6Addr, sources: Ipv6Net) {
    const HEADER: u16 = 40;
    let [.., m0, m1, m2, m3] = sources.hostmask().octets();
    target.forward = Forward::Ipip6 as u8;
    target.addresses = [wide(sources.network().into()), wide(destination.into())];
    target.variation = u32::from_ne_bytes([m0, m1, m2, m3]);
    target.max_len = target.max_len.saturating_sub(HEADER);
}

fn nat(target: &mut Target, service: &Service, vip: IpAddr, backend: &Backend) {
    let vip_port = service.port.exact().map_or(0, |port| port.get().to_be());
    let backend_port = backend.port.map_or(vip_port, |port| port.get().to_be());
    let (from, to) = (wide(vip), wide(backend.address));
    let sum = |words: [u64; 2]| {
        let [a, b] = words;
        [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
            .map(checksum::halves)
            .iter()
            .sum::<u32>()
    };
    target.forward = Forward::Nat as u8;
    target.addresses[Target::BACKEND] = to;
    target.addresses[Target::VIP] = from;
    target.vip_port = vip_port;
    target.backend_port = backend_port;
    // The pseudo header holds the addresses too, so the transport's sum changes by both.
    target.header_sum = checksum::delta(sum(from), sum(to));
    target.variation =
        checksum::fold(target.header_sum + checksum::delta(u32::from(vip_port), u32::from(backend_port)));
}
