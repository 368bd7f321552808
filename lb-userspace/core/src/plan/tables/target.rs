//! Filling in a target's line: everything a packet needs on its way to one backend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use lb_common::{
    abi::{Forward, TagsEntry, TargetEntry},
    net::checksum,
    pipeline::wrap::overhead,
};

use crate::desired::{Backend, Forwarder, Service, Vlan};

/// The way to a backend, as the kernel's routing and neighbour tables have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface index to send out of.
    pub interface: u32,
    /// MAC of the next hop.
    pub destination_mac: [u8; 6],
    /// MAC of the interface.
    pub source_mac: [u8; 6],
    /// Largest IP packet that the way carries, in bytes.
    pub mtu: u32,
    /// Whether the next hop is the destination itself, not a gateway.
    pub on_link: bool,
    /// The VLAN tags that frames need there.
    pub tags: TagsEntry,
}

/// The prefixes from which tunnels take their outer source address. The bits behind the prefix (the last 32 at most) vary
/// with the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelSources {
    /// For backends with IPv4 addresses.
    pub v4: Ipv4Net,
    /// For backends with IPv6 addresses.
    pub v6: Ipv6Net,
}

/// What maps `TARGETS` and `TAGS` hold of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetCell {
    /// All but the tags.
    pub target: TargetEntry,
    /// The VLAN tags; [`TargetEntry::tags`] says how many there are.
    pub tags: TagsEntry,
}

impl TargetCell {
    /// Whether the entries differ in MACs only, so that a packet on its way may meet some of both.
    pub(in crate::plan) fn differs_in_macs_only(&self, new: &Self) -> bool {
        let target = TargetEntry {
            macs_head: new.target.macs_head,
            macs_tail: new.target.macs_tail,
            ..self.target
        };
        (target, self.tags) == (new.target, new.tags)
    }
}

/// An address in the form of [`TargetEntry::addresses`].
pub(in crate::plan) fn wide(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(v4) => [u64::from(u32::from_ne_bytes(v4.octets())), 0],
        IpAddr::V6(v6) => {
            let [a, b] = bytemuck::cast::<[u8; 16], [[u8; 8]; 2]>(v6.octets());
            [u64::from_ne_bytes(a), u64::from_ne_bytes(b)]
        }
    }
}

/// Where packets to a backend go: out of an interface, or to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Way {
    /// Out of an interface.
    Hop(NextHop),
    /// To this host itself.
    Here,
}

/// The entry for `backend` of `service`. For forwarders that translate, `vip` is the VIP of the backend's family.
pub(in crate::plan) fn encode(
    service: &Service,
    vip: Option<IpAddr>,
    backend: &Backend,
    way: &Way,
    sources: &TunnelSources,
) -> TargetCell {
    let hop = match way {
        Way::Hop(hop) => hop,
        Way::Here => return here(),
    };
    let [d0, d1, d2, d3, d4, d5] = hop.destination_mac;
    let [s0, s1, s2, s3, s4, s5] = hop.source_mac;
    let tags = backend.vlan.map_or(hop.tags, tags_of);
    let mut target = TargetEntry {
        macs_head: u64::from_ne_bytes([d0, d1, d2, d3, d4, d5, s0, s1]),
        macs_tail: u32::from_ne_bytes([s2, s3, s4, s5]),
        tags: tags.bytes(),
        egress: hop.interface,
        max_len: u16::try_from(hop.mtu).unwrap_or(u16::MAX),
        ..TargetEntry::default()
    };
    let forwarder = backend.forwarder_in_use(service);
    let tunnel_port = service.tunnel_port_in_use(forwarder).unwrap_or(0);
    match (forwarder, backend.address) {
        (Forwarder::L2dsr, _) => target.forward = Forward::L2dsr,
        (Forwarder::Ipip, IpAddr::V4(to)) => tunnel4(&mut target, Forward::Ipip4, 0, to, sources.v4),
        (Forwarder::Ipip, IpAddr::V6(to)) => tunnel6(&mut target, Forward::Ipip6, 0, to, sources.v6),
        (Forwarder::Gue, IpAddr::V4(to)) => tunnel4(&mut target, Forward::Gue4, tunnel_port, to, sources.v4),
        (Forwarder::Gue, IpAddr::V6(to)) => tunnel6(&mut target, Forward::Gue6, tunnel_port, to, sources.v6),
        (Forwarder::Fou, IpAddr::V4(to)) => tunnel4(&mut target, Forward::Fou4, tunnel_port, to, sources.v4),
        (Forwarder::Fou, IpAddr::V6(to)) => tunnel6(&mut target, Forward::Fou6, tunnel_port, to, sources.v6),
        (Forwarder::Gre, IpAddr::V4(to)) => tunnel4(&mut target, Forward::Gre4, 0, to, sources.v4),
        (Forwarder::Gre, IpAddr::V6(to)) => tunnel6(&mut target, Forward::Gre6, 0, to, sources.v6),
        (Forwarder::Nat, _) => {
            if let Some(vip) = vip {
                nat(&mut target, service, vip, backend);
            }
        }
        (Forwarder::Fullnat, to) => {
            target.forward = Forward::FullNat;
            target.addresses[TargetEntry::BACKEND] = wide(to);
            target.backend_port = backend.port.map_or(0, |port| port.get().to_be());
        }
        // Packets to this host take no way, even if one is known.
        (Forwarder::Local, _) => return here(),
    }
    TargetCell { target, tags }
}

/// The entry of a backend that is this host. Every packet that came in fits.
fn here() -> TargetCell {
    TargetCell {
        target: TargetEntry {
            forward: Forward::Local,
            max_len: u16::MAX,
            ..TargetEntry::default()
        },
        tags: TagsEntry::NONE,
    }
}

fn tags_of(vlan: Vlan) -> TagsEntry {
    match vlan {
        Vlan::Tag(id) => TagsEntry::one(id.get()),
        Vlan::Stacked { outer, inner } => TagsEntry::two(outer.get(), inner.get()),
    }
}

fn tunnel(target: &mut TargetEntry, forward: Forward, port: u16) {
    target.forward = forward;
    target.backend_port = port.to_be();
    target.max_len = target.max_len.saturating_sub(overhead(forward) as u16);
}

fn tunnel4(target: &mut TargetEntry, forward: Forward, port: u16, destination: Ipv4Addr, sources: Ipv4Net) {
    let source = u32::from_ne_bytes(sources.network().octets());
    let destination = u32::from_ne_bytes(destination.octets());
    tunnel(target, forward, port);
    target.addresses[TargetEntry::OUTER_SOURCE][0] = u64::from(source);
    target.addresses[TargetEntry::OUTER_DESTINATION][0] = u64::from(destination);
    target.header_sum = checksum::halves(source) + checksum::halves(destination);
    target.variation = u32::from_ne_bytes(sources.hostmask().octets());
}

fn tunnel6(target: &mut TargetEntry, forward: Forward, port: u16, destination: Ipv6Addr, sources: Ipv6Net) {
    let [.., m0, m1, m2, m3] = sources.hostmask().octets();
    tunnel(target, forward, port);
    target.addresses = [wide(sources.network().into()), wide(destination.into())];
    target.variation = u32::from_ne_bytes([m0, m1, m2, m3]);
}

fn nat(target: &mut TargetEntry, service: &Service, vip: IpAddr, backend: &Backend) {
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
    target.forward = Forward::Nat;
    target.addresses[TargetEntry::BACKEND] = to;
    target.addresses[TargetEntry::VIP] = from;
    target.vip_port = vip_port;
    target.backend_port = backend_port;
    // The pseudo header holds the addresses, too, so the transport's sum changes by ports and addresses.
    target.header_sum = checksum::delta(sum(from), sum(to));
    target.variation =
        checksum::fold(target.header_sum + checksum::delta(u32::from(vip_port), u32::from(backend_port)));
}
