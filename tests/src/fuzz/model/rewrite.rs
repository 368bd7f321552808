//! Packets on their way: one hop further, in tunnels, with other addresses, behind other tags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::abi::Reason;
use lb_userspace::{
    model::{Backend, Forwarder, ServicePort, Vlan},
    plan::NextHop,
};
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, UdpPacket, checksum};

use super::{
    Flow, Mistake, Model, Place, Said,
    fragments::Known,
    read::{Content, Quote, Read},
    speak::Answer,
};
use crate::fuzz::world::{OWN, OWN_MAC, ROUTER_MAC};

/// Length of what a forwarder puts in front of a packet to that backend.
pub(super) fn overhead(forwarder: Forwarder, backend: IpAddr) -> usize {
    let outer = if backend.is_ipv4() { 20 } else { 40 };
    match forwarder {
        Forwarder::Ipip => outer,
        Forwarder::Gue => outer + 12,
        Forwarder::Fou => outer + 8,
        Forwarder::Gre => outer + 4,
        Forwarder::L2dsr | Forwarder::Nat | Forwarder::Fullnat | Forwarder::Local => 0,
    }
}

/// A checksum after what it covers has changed, where `before` and `after` are the sums of that; and whether it was
/// wrong, and so is as wrong as it was (RFC 1624).
pub(super) fn refreshed(old: u16, before: u16, after: u16) -> (u16, bool) {
    if checksum::combine(&[before, old]) == u16::MAX {
        (!after, false)
    } else {
        (!checksum::combine(&[!old, !before, after]), true)
    }
}

/// Brings the header checksum of an IPv4 packet up to date that was `old`; true if it was wrong.
pub(super) fn fill_header_sum(old: &[u8], new: &mut [u8]) -> bool {
    let sum = |ip: &[u8]| {
        let mut header = ip[..usize::from(ip[0] & 15) * 4].to_vec();
        header[10..12].fill(0);
        checksum::data(&header)
    };
    let stored = u16::from_be_bytes([old[10], old[11]]);
    let (value, was_wrong) = refreshed(stored, sum(old), sum(new));
    new[10..12].copy_from_slice(&value.to_be_bytes());
    was_wrong
}

/// An IP packet that is being rewritten, and where its checksums stand that were wrong.
struct Packet<'r> {
    read: &'r Read,
    bytes: Vec<u8>,
    loose: Vec<usize>,
}

impl<'r> Packet<'r> {
    /// `loose` counts from the frame's start.
    fn new(read: &'r Read, frame: &[u8], loose: &[usize]) -> Self {
        Self {
            read,
            bytes: frame[read.at..].to_vec(),
            loose: loose.iter().map(|at| at - read.at).collect(),
        }
    }

    /// Changes the IP header.
    fn change_header(&mut self, change: impl FnOnce(&mut [u8])) {
        let old = self.bytes.clone();
        change(&mut self.bytes);
        if !self.read.is_v6() && fill_header_sum(&old, &mut self.bytes) {
            self.loose.push(10);
        }
    }

    fn hop(&mut self) {
        let ttl = if self.read.is_v6() { 7 } else { 8 };
        self.change_header(|ip| ip[ttl] = ip[ttl].wrapping_sub(1));
    }

    /// Gives one end another address and port; `end` is 0 for the source, 1 for the destination.
    fn readdress(&mut self, end: usize, address: IpAddr, port: Option<u16>, leaves_sum: bool) {
        let old = self.bytes.clone();
        self.change_header(|ip| match address {
            IpAddr::V4(v4) => ip[12 + 4 * end..][..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => ip[8 + 16 * end..][..16].copy_from_slice(&v6.octets()),
        });
        if matches!(self.read.content, Content::Later) {
            return;
        }
        let at = self.read.transport;
        if let Some(port) = port {
            self.bytes[at + 2 * end..][..2].copy_from_slice(&port.to_be_bytes());
        }
        let field = match self.read.protocol {
            IpProtocol::Tcp => at + 16,
            IpProtocol::Udp => at + 6,
            _ => return,
        };
        if leaves_sum {
            return;
        }
        let stored = u16::from_be_bytes([old[field], old[field + 1]]);
        let is_udp = self.read.protocol == IpProtocol::Udp;
        // RFC 768: 0 says that there is none.
        if is_udp && stored == 0 {
            return;
        }
        let [before, after] = [&old, &self.bytes].map(|ip| self.covered(ip, field));
        let (mut value, was_wrong) = refreshed(stored, before, after);
        // Of a fragment nobody can say whether its checksum is right.
        if was_wrong {
            self.loose.push(field);
        }
        if is_udp && value == 0 {
            value = 0xffff;
        }
        self.bytes[field..field + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// The sum of what TCP's or UDP's checksum covers, without itself.
    fn covered(&self, ip: &[u8], field: usize) -> u16 {
        let (at, protocol) = (self.read.transport, self.read.protocol);
        let mut segment = ip[at..self.read.len].to_vec();
        if protocol == IpProtocol::Udp {
            let len = usize::from(UdpPacket::new_unchecked(&segment[..]).len());
            segment.truncate(len);
        }
        segment[field - at..][..2].fill(0);
        let len = segment.len() as u32;
        let pseudo = if self.read.is_v6() {
            let ip = Ipv6Packet::new_unchecked(ip);
            checksum::pseudo_header_v6(&ip.src_addr(), &ip.dst_addr(), protocol, len)
        } else {
            let ip = Ipv4Packet::new_unchecked(ip);
            checksum::pseudo_header_v4(&ip.src_addr(), &ip.dst_addr(), protocol, len)
        };
        checksum::combine(&[pseudo, checksum::data(&segment)])
    }

    /// The frame, with what stands in front of the packet.
    fn framed(self, front: &[u8]) -> (Vec<u8>, Vec<usize>) {
        let loose = self.loose.iter().map(|at| at + front.len()).collect();
        ([front, &self.bytes].concat(), loose)
    }
}

const fn ether_type(v6: bool) -> [u8; 2] {
    if v6 { [0x86, 0xdd] } else { [0x08, 0x00] }
}

/// MACs, tags and EtherType.
fn link(to: [u8; 6], from: [u8; 6], vlan: Option<Vlan>, v6: bool) -> Vec<u8> {
    let tag = |kind: [u8; 2], vlan: u16| [kind, vlan.to_be_bytes()].concat();
    let tags = match vlan {
        None => Vec::new(),
        Some(Vlan::Tag(one)) => tag([0x81, 0], one.get()),
        Some(Vlan::Stacked { outer, inner }) => {
            [tag([0x88, 0xa8], outer.get()), tag([0x81, 0], inner.get())].concat()
        }
    };
    [&to[..], &from, &tags, &ether_type(v6)].concat()
}

/// The packet toward its backend, and where its checksums stand that were wrong.
pub(super) fn toward(
    model: &Model<'_>,
    place: &Place<'_>,
    backend: &Backend,
    hop: &NextHop,
    read: &Read,
    frame: &[u8],
    loose: &[usize],
) -> (Vec<u8>, Vec<usize>) {
    let service = &place.pool.service;
    let forwarder = backend.forwarder_in_use(service);
    let mut packet = Packet::new(read, frame, loose);
    packet.hop();
    let macs = |v6| link(hop.destination_mac, hop.source_mac, backend.vlan, v6);
    match forwarder {
        Forwarder::Nat => {
            let port = backend.port.map(u16::from);
            if let Content::Error(quote) = &read.content {
                readdress_error(&mut packet, quote, backend.address, port);
            } else {
                packet.readdress(1, backend.address, port, model.errs(Mistake::StaleSum));
            }
            packet.framed(&macs(read.is_v6()))
        }
        Forwarder::Ipip | Forwarder::Gue | Forwarder::Fou | Forwarder::Gre => {
            let tos = if model.errs(Mistake::OuterTos) {
                0
            } else {
                tos(&packet.bytes)
            };
            let port = service.tunnel_port_in_use(forwarder).unwrap_or(0);
            let shell = shell(model, forwarder, backend.address, port, place.hash, tos, read);
            packet.framed(&[macs(backend.address.is_ipv6()), shell].concat())
        }
        Forwarder::L2dsr | Forwarder::Fullnat | Forwarder::Local => packet.framed(&macs(read.is_v6())),
    }
}

fn tos(ip: &[u8]) -> u8 {
    match ip[0] >> 4 {
        4 => ip[1],
        _ => ip[0] << 4 | ip[1] >> 4,
    }
}

/// The headers of a tunnel around a packet: RFC 2003, 2473, 2784, draft-ietf-intarea-gue, and FOU.
fn shell(
    model: &Model<'_>,
    forwarder: Forwarder,
    to: IpAddr,
    port: u16,
    hash: u64,
    tos: u8,
    read: &Read,
) -> Vec<u8> {
    let varied = (hash >> 8) as u32;
    let (inner, inner_type) = (if read.is_v6() { 41 } else { 4 }, ether_type(read.is_v6()));
    let datagram = |header: &[u8]| {
        let mut bytes = vec![0; 8];
        let mut udp = UdpPacket::new_unchecked(&mut bytes);
        udp.set_src_port(0xc000 | varied as u16 & 0x3fff);
        udp.set_dst_port(port);
        udp.set_len((8 + header.len() + read.len) as u16);
        [&bytes[..], header].concat()
    };
    let (protocol, between) = match forwarder {
        Forwarder::Gue => (IpProtocol::Udp, datagram(&[0, inner, 0, 0])),
        Forwarder::Fou => (IpProtocol::Udp, datagram(&[])),
        Forwarder::Gre => (IpProtocol::from(47), [&[0, 0][..], &inner_type].concat()),
        _ => (IpProtocol::from(inner), Vec::new()),
    };
    let payload = between.len() + read.len;
    let sources = model.world.tunnel_sources();
    let outer = match to {
        IpAddr::V4(to) => {
            let mask = sources.v4.hostmask().octets();
            let host = varied.to_le_bytes();
            let base = sources.v4.network().octets();
            let from: [u8; 4] = std::array::from_fn(|i| base[i] | host[i] & mask[i]);
            let mut bytes = vec![0; 20];
            let mut ip = Ipv4Packet::new_unchecked(&mut bytes);
            ip.set_version(4);
            ip.set_header_len(20);
            ip.set_dscp(tos >> 2);
            ip.set_ecn(tos & 3);
            ip.set_total_len((20 + payload) as u16);
            // RFC 6864: what is not to be fragmented needs no identification.
            ip.set_dont_frag(true);
            ip.set_hop_limit(64);
            ip.set_next_header(protocol);
            ip.set_src_addr(Ipv4Addr::from(from));
            ip.set_dst_addr(to);
            ip.fill_checksum();
            bytes
        }
        IpAddr::V6(to) => {
            let mask = sources.v6.hostmask().octets();
            let host = varied.to_le_bytes();
            let base = sources.v6.network().octets();
            let varies = |i: usize| i.checked_sub(12).map_or(0, |j| host[j] & mask[i]);
            let from: [u8; 16] = std::array::from_fn(|i| base[i] | varies(i));
            let mut bytes = vec![0; 40];
            let mut ip = Ipv6Packet::new_unchecked(&mut bytes);
            ip.set_version(6);
            ip.set_traffic_class(tos);
            // RFC 6438: the flow label follows the flow.
            ip.set_flow_label(varied & 0xf_ffff);
            ip.set_payload_len(payload as u16);
            ip.set_hop_limit(64);
            ip.set_next_header(protocol);
            ip.set_src_addr(Ipv6Addr::from(from));
            ip.set_dst_addr(to);
            bytes
        }
    };
    [outer, between].concat()
}

/// Makes the MSS option of a SYN no larger than `limit` (RFC 9293 §3.7.1).
pub(super) fn clamp(read: &Read, frame: &mut [u8], limit: Option<u16>, loose: &mut Vec<usize>) {
    let Some(limit) = limit else { return };
    let tcp = read.at + read.transport;
    let header_end = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
    let mut at = tcp + 20;
    let value = loop {
        match frame[at..header_end] {
            [] | [0, ..] => return,
            [1, ..] => at += 1,
            [2, 4, _, _, ..] => break at + 2,
            [2, ..] => return,
            [_, len, ..] if len >= 2 && at + usize::from(len) <= header_end => at += usize::from(len),
            _ => return,
        }
    };
    let asked = u16::from_be_bytes([frame[value], frame[value + 1]]);
    if asked <= limit {
        return;
    }
    let packet = Packet::new(read, frame, &[]);
    let field = read.transport + 16;
    let before = packet.covered(&packet.bytes, field);
    frame[value..value + 2].copy_from_slice(&limit.to_be_bytes());
    let after = packet.covered(&frame[read.at..], field);
    let stored = u16::from_be_bytes([frame[tcp + 16], frame[tcp + 17]]);
    let (new, was_wrong) = refreshed(stored, before, after);
    frame[tcp + 16..tcp + 18].copy_from_slice(&new.to_be_bytes());
    if was_wrong {
        loose.push(tcp + 16);
    }
}

/// Translates an ICMP error toward a backend: its destination, and the source of the packet that it quotes, with all
/// checksums (RFC 5508 §4).
fn readdress_error(packet: &mut Packet<'_>, quote: &Quote, backend: IpAddr, port: Option<u16>) {
    let (icmp, end) = (packet.read.transport, packet.read.len);
    let old = packet.bytes.clone();
    packet.change_header(|ip| match backend {
        IpAddr::V4(v4) => ip[16..20].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => ip[24..40].copy_from_slice(&v6.octets()),
    });
    let (at, transport) = (quote.at, quote.transport);
    let mut words = Vec::new();
    match backend {
        IpAddr::V4(v4) => {
            let before = old[at..].to_vec();
            packet.bytes[at + 12..at + 16].copy_from_slice(&v4.octets());
            let header = usize::from(before[0] & 15) * 4;
            if before.len() >= header && fill_header_sum(&before, &mut packet.bytes[at..]) {
                packet.loose.push(at + 10);
            }
            words.push((at + 12, 4));
        }
        IpAddr::V6(v6) => {
            packet.bytes[at + 8..at + 24].copy_from_slice(&v6.octets());
            words.push((at + 8, 16));
        }
    }
    if let Some(port) = port {
        packet.bytes[transport..transport + 2].copy_from_slice(&port.to_be_bytes());
        words.push((transport, 2));
    }
    let field = match quote.protocol {
        IpProtocol::Tcp => Some(transport + 16),
        IpProtocol::Udp => Some(transport + 6),
        _ => None,
    };
    if let Some(field) = field.filter(|field| field + 2 <= end) {
        let stored = u16::from_be_bytes([old[field], old[field + 1]]);
        if quote.protocol == IpProtocol::Tcp || stored != 0 {
            let sum = |ip: &[u8]| {
                let sums: Vec<u16> = words
                    .iter()
                    .map(|(at, len)| checksum::data(&ip[*at..at + len]))
                    .collect();
                checksum::combine(&sums)
            };
            let mut value = !checksum::combine(&[!stored, !sum(&old), sum(&packet.bytes)]);
            if quote.protocol == IpProtocol::Udp && value == 0 {
                value = 0xffff;
            }
            packet.bytes[field..field + 2].copy_from_slice(&value.to_be_bytes());
            packet.loose.push(field);
        }
    }
    let own = u16::from_be_bytes([old[icmp + 2], old[icmp + 3]]);
    let sum = |ip: &[u8]| {
        let mut bytes = ip[icmp..end].to_vec();
        bytes[2..4].fill(0);
        let pseudo = if packet.read.is_v6() {
            let ip = Ipv6Packet::new_unchecked(ip);
            checksum::pseudo_header_v6(
                &ip.src_addr(),
                &ip.dst_addr(),
                IpProtocol::Icmpv6,
                (end - icmp) as u32,
            )
        } else {
            0
        };
        checksum::combine(&[pseudo, checksum::data(&bytes)])
    };
    let (value, was_wrong) = refreshed(own, sum(&old), sum(&packet.bytes));
    packet.bytes[icmp + 2..icmp + 4].copy_from_slice(&value.to_be_bytes());
    if was_wrong {
        packet.loose.push(icmp + 2);
    }
}

impl Model<'_> {
    /// An answer of a `nat` backend to its client: the VIP becomes its source again.
    pub(super) fn give_back(&mut self, read: &Read, frame: &[u8], flow: Flow) -> Result<Said, Reason> {
        let Content::Ported { .. } = read.content else {
            return Err(Reason::NoService);
        };
        let [port, _] = flow.ports;
        let (pool, backend) = self
            .world
            .pools
            .iter()
            .flat_map(|pool| pool.service.backends.iter().map(move |backend| (pool, backend)))
            .find(|(pool, backend)| {
                let service = &pool.service;
                let its_port = backend.port.or(service.port.exact()).map(u16::from);
                let is_nat = backend.forwarder_in_use(service) == Forwarder::Nat;
                let is_its = pool.members.iter().any(|member| member.id == backend.id());
                is_nat
                    && is_its
                    && backend.address == read.source
                    && super::whom::number(service.protocol) == read.protocol
                    && its_port.is_none_or(|its| its == port)
            })
            .ok_or(Reason::NoService)?;
        if OWN.iter().any(|own| own.parse() == Ok(read.destination)) {
            return Err(Reason::NoService);
        }
        if read.ttl <= 1 {
            return self
                .answer(read, frame, Answer::TimeExceeded)
                .ok_or(Reason::TtlExpired);
        }
        if let Some(piece) = read.piece
            && !self.concerns(read)
            && let Known::Overlap(_) = self.note(read, piece, &flow)
        {
            return Err(Reason::BadFragment);
        }
        let vip = pool.vips.iter().find(|vip| vip.is_ipv6() == read.is_v6());
        let vip = vip.and_then(|vip| vip.host()).ok_or(Reason::NoService)?;
        let vip_port = match pool.service.port {
            ServicePort::Exact(port) => Some(port.get()),
            ServicePort::Any | ServicePort::Range(_) => None,
        };
        let mut packet = Packet::new(read, frame, &[]);
        packet.hop();
        packet.readdress(0, vip, vip_port, self.errs(Mistake::StaleSum));
        let (frame, loose) = packet.framed(&link(ROUTER_MAC, OWN_MAC, None, read.is_v6()));
        Ok(Said {
            reason: Reason::Returned,
            backend: Some(backend.id()),
            redirected: false,
            frame,
            loose,
        })
    }
}
