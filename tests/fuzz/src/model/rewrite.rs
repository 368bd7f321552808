//! Packets on their way: one hop further, in tunnels, with other addresses, behind other tags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_core::desired::{Backend, Forwarder, Vlan};
use lb_core::plan::NextHop;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, UdpPacket, checksum};

use super::{Mistake, Model, Selection, parse::Parsed, translate::Ends};

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
pub(super) struct Packet<'r> {
    pub(super) parsed: &'r Parsed,
    pub(super) bytes: Vec<u8>,
    pub(super) loose: Vec<usize>,
}

impl<'r> Packet<'r> {
    /// `loose` counts from the frame's start.
    pub(super) fn new(parsed: &'r Parsed, frame: &[u8], loose: &[usize]) -> Self {
        Self {
            parsed,
            bytes: frame[parsed.at..].to_vec(),
            loose: loose.iter().map(|at| at - parsed.at).collect(),
        }
    }

    /// Changes the IP header.
    pub(super) fn change_header(&mut self, change: impl FnOnce(&mut [u8])) {
        let old = self.bytes.clone();
        change(&mut self.bytes);
        if !self.parsed.is_v6() && fill_header_sum(&old, &mut self.bytes) {
            self.loose.push(10);
        }
    }

    /// One hop further.
    pub(super) fn hop(&mut self) {
        let ttl = if self.parsed.is_v6() { 7 } else { 8 };
        self.change_header(|ip| ip[ttl] = ip[ttl].wrapping_sub(1));
    }

    /// The sum of what TCP's or UDP's checksum covers, without itself.
    pub(super) fn covered(&self, ip: &[u8], field: usize) -> u16 {
        let (at, protocol) = (self.parsed.transport, self.parsed.protocol);
        let mut segment = ip[at..self.parsed.len].to_vec();
        if protocol == IpProtocol::Udp {
            let len = usize::from(UdpPacket::new_unchecked(&segment[..]).len());
            // A first fragment's may be nonsense.
            segment.truncate(len.max(8));
        }
        segment[field - at..][..2].fill(0);
        let len = segment.len() as u32;
        let pseudo = if self.parsed.is_v6() {
            let ip = Ipv6Packet::new_unchecked(ip);
            checksum::pseudo_header_v6(&ip.src_addr(), &ip.dst_addr(), protocol, len)
        } else {
            let ip = Ipv4Packet::new_unchecked(ip);
            checksum::pseudo_header_v4(&ip.src_addr(), &ip.dst_addr(), protocol, len)
        };
        checksum::combine(&[pseudo, checksum::data(&segment)])
    }

    /// The frame, with what stands in front of the packet.
    pub(super) fn framed(self, front: &[u8]) -> (Vec<u8>, Vec<usize>) {
        let loose = self.loose.iter().map(|at| at + front.len()).collect();
        ([front, &self.bytes].concat(), loose)
    }
}

const fn ether_type(v6: bool) -> [u8; 2] {
    if v6 { [0x86, 0xdd] } else { [0x08, 0x00] }
}

/// MACs, tags and EtherType.
pub(super) fn link(to: [u8; 6], from: [u8; 6], vlan: Option<Vlan>, v6: bool) -> Vec<u8> {
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

/// The packet toward its backend, which is to see the ends `to`, and where its checksums stand that were wrong.
pub(super) fn toward(
    model: &Model<'_>,
    selection: &Selection<'_>,
    backend: &Backend,
    hop: &NextHop,
    mut packet: Packet<'_>,
    [from, to]: [&Ends; 2],
) -> (Vec<u8>, Vec<usize>) {
    let service = &selection.pool.service;
    let forwarder = backend.forwarder_in_use(service);
    let parsed = packet.parsed;
    packet.hop();
    let macs = |v6| link(hop.destination_mac, hop.source_mac, backend.vlan, v6);
    match forwarder {
        Forwarder::Nat | Forwarder::Fullnat => {
            packet.translate(from, to, model.mistake);
            packet.framed(&macs(parsed.is_v6()))
        }
        Forwarder::Ipip | Forwarder::Gue | Forwarder::Fou | Forwarder::Gre => {
            let tos = if model.errs(Mistake::OuterTos) {
                0
            } else {
                tos(&packet.bytes)
            };
            let port = service.tunnel_port_in_use(forwarder).unwrap_or(0);
            let shell = shell(
                model,
                forwarder,
                backend.address,
                port,
                selection.hash,
                tos,
                parsed,
            );
            packet.framed(&[macs(backend.address.is_ipv6()), shell].concat())
        }
        Forwarder::L2dsr | Forwarder::Local => packet.framed(&macs(parsed.is_v6())),
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
    parsed: &Parsed,
) -> Vec<u8> {
    let varied = (hash >> 8) as u32;
    let (inner, inner_type) = (if parsed.is_v6() { 41 } else { 4 }, ether_type(parsed.is_v6()));
    let datagram = |header: &[u8]| {
        let mut bytes = vec![0; 8];
        let mut udp = UdpPacket::new_unchecked(&mut bytes);
        udp.set_src_port(0xc000 | varied as u16 & 0x3fff);
        udp.set_dst_port(port);
        udp.set_len((8 + header.len() + parsed.len) as u16);
        [&bytes[..], header].concat()
    };
    let (protocol, between) = match forwarder {
        Forwarder::Gue => (IpProtocol::Udp, datagram(&[0, inner, 0, 0])),
        Forwarder::Fou => (IpProtocol::Udp, datagram(&[])),
        Forwarder::Gre => (IpProtocol::from(47), [&[0, 0][..], &inner_type].concat()),
        _ => (IpProtocol::from(inner), Vec::new()),
    };
    let payload = between.len() + parsed.len;
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
pub(super) fn clamp(parsed: &Parsed, frame: &mut [u8], limit: Option<u16>, loose: &mut Vec<usize>) {
    let Some(limit) = limit else { return };
    let tcp = parsed.at + parsed.transport;
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
    let packet = Packet::new(parsed, frame, &[]);
    let field = parsed.transport + 16;
    let before = packet.covered(&packet.bytes, field);
    frame[value..value + 2].copy_from_slice(&limit.to_be_bytes());
    let after = packet.covered(&frame[parsed.at..], field);
    let stored = u16::from_be_bytes([frame[tcp + 16], frame[tcp + 17]]);
    let (new, was_wrong) = refreshed(stored, before, after);
    frame[tcp + 16..tcp + 18].copy_from_slice(&new.to_be_bytes());
    if was_wrong {
        loose.push(tcp + 16);
    }
}
