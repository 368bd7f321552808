//! What a packet is: the headers, as far as they say whom it is for.

use crate::{
    abi::Reason,
    net::{
        ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, ETHERTYPE_VLAN_OUTER, SCTP, TCP, UDP,
        load16, sctp,
    },
};

use super::{
    super::{
        Host, Packet,
        family::{Family, V4, V6},
        link,
        parse::{self, Ip, Transport},
    },
    PacketKind, Scratch, StepResult,
    extensions::{Payload, content},
    scratch::{offset, within_headers},
};

/// VLAN tags that are looked behind.
const MAX_TAGS: usize = 2;
/// Bytes that a fragment's offset and length may come to (RFC 791 §3.1).
const MAX_PACKET: usize = 65_535;

/// Reads the headers.
#[inline(always)]
pub(super) fn dissect<P: Packet, T: Host>(packet: &P, tables: &T, scratch: &mut Scratch) -> StepResult {
    match behind_tags(packet, scratch).ok_or(Reason::NotIp)? {
        ETHERTYPE_IPV4 => network::<V4, P, T>(packet, tables, scratch),
        ETHERTYPE_IPV6 => network::<V6, P, T>(packet, tables, scratch),
        _ => Err(Reason::NotIp),
    }
}

/// Looks behind the VLAN tags; the EtherType that stands there.
#[inline(always)]
fn behind_tags<P: Packet>(packet: &P, scratch: &mut Scratch) -> Option<u16> {
    let ethernet: &[u8; ETHERNET] = packet.view(0)?;
    let mut ether_type = load16(ethernet, 12);
    let mut at = ETHERNET;
    for _ in 0..MAX_TAGS {
        if ether_type == ETHERTYPE_VLAN || ether_type == ETHERTYPE_VLAN_OUTER {
            let tag: &[u8; 4] = packet.view(at)?;
            ether_type = load16(tag, 2);
            at += 4;
            scratch.tags += 1;
        }
    }
    scratch.network = at as u32;
    Some(ether_type)
}

#[inline(always)]
fn network<F: Family, P: Packet, T: Host>(packet: &P, tables: &T, scratch: &mut Scratch) -> StepResult {
    let ip = F::parse(packet, offset(scratch.network)).ok_or(Reason::NoService)?;
    link::check::<F, P, T>(packet, tables, ip.destination)?;
    scratch.v6 = u32::from(F::V6);
    scratch.source = F::wide(ip.source);
    scratch.destination = F::wide(ip.destination);
    scratch.transport = ip.transport as u32;
    scratch.len = u32::from(ip.len);
    scratch.protocol = u32::from(ip.protocol);
    scratch.tos = u32::from(ip.tos);
    scratch.ttl = u32::from(ip.ttl);
    scratch.outcome.bytes = u32::from(ip.len);
    match transport::<F, P>(packet, ip, scratch) {
        Ok(kind) => scratch.kind = kind,
        Err(oddity) => {
            scratch.kind = PacketKind::NoPorts;
            scratch.set_oddity(oddity);
        }
    }
    Ok(())
}

#[inline(always)]
fn transport<F: Family, P: Packet>(
    packet: &P,
    mut ip: Ip<F::Address>,
    scratch: &mut Scratch,
) -> Result<PacketKind, Reason> {
    if let Some(oddity) = ip.oddity.take()
        && oddity != Reason::Fragment
    {
        return Err(oddity);
    }
    let end = ip.network + usize::from(ip.len);
    let content = content::<F, P>(packet, &ip, end)?;
    ip.protocol = content.protocol;
    ip.transport = within_headers(content.at);
    scratch.protocol = u32::from(ip.protocol);
    scratch.transport = ip.transport as u32;
    let is_icmp = ip.protocol == F::ICMP;
    if content.fragment == 0 {
        return if is_icmp {
            icmp::<F, P>(packet, &ip, end)
        } else {
            ports(packet, &ip, scratch)
        };
    }
    if is_icmp {
        // The host puts it together by itself.
        return Err(Reason::NoService);
    }
    fragment::<F, P>(packet, &ip, &content, end, scratch)
}

/// Notes the ports of a whole packet.
#[inline(always)]
fn ports<P: Packet, A>(packet: &P, ip: &Ip<A>, scratch: &mut Scratch) -> Result<PacketKind, Reason> {
    let transport = if ip.protocol == SCTP {
        sctp_ports(packet, ip)?
    } else {
        parse::transport(packet, ip)?
    };
    scratch.ports = transport.ports;
    scratch.outcome.tcp_flags = u16::from(transport.flags);
    Ok(PacketKind::Whole)
}

/// SCTP's ports, and what its first chunk says about the association as TCP's flags would say it.
#[inline(always)]
fn sctp_ports<P: Packet, A>(packet: &P, ip: &Ip<A>) -> Result<Transport, Reason> {
    let end = ip.network + usize::from(ip.len);
    let len = end.saturating_sub(ip.transport);
    if len < sctp::HEADER {
        return Err(Reason::Truncated);
    }
    let header: &[u8; sctp::HEADER] = packet.view(ip.transport).ok_or(Reason::Truncated)?;
    let ports = crate::net::load32(header, 0);
    let chunk: Option<&[u8; 4]> = packet.view(ip.transport + sctp::HEADER);
    let flags = match chunk {
        Some(chunk) if len >= sctp::HEADER + chunk.len() => sctp::as_tcp_flags(chunk[0]),
        _ => 0,
    };
    Ok(Transport { ports, flags })
}

/// An echo request, an error, or nothing that concerns the balancer.
#[inline(always)]
fn icmp<F: Family, P: Packet>(packet: &P, ip: &Ip<F::Address>, end: usize) -> Result<PacketKind, Reason> {
    if end.saturating_sub(ip.transport) < 8 {
        return Err(Reason::Truncated);
    }
    let header: &[u8; 8] = packet.view(ip.transport).ok_or(Reason::Truncated)?;
    let (request, _) = F::ECHO;
    if header[0] < 32 && F::ICMP_ERRORS >> header[0] & 1 != 0 {
        return Ok(PacketKind::IcmpError);
    }
    // Options and extension headers would have to be turned around too (RFC 1122 §3.2.2.6).
    let is_plain = ip.transport == ip.network + F::HEADER;
    if header[0] == request && header[1] == 0 && is_plain {
        return Ok(PacketKind::Echo);
    }
    Err(Reason::NoService)
}

/// Notes where a fragment belongs, and the ports if it is the first.
#[inline(always)]
fn fragment<F: Family, P: Packet>(
    packet: &P,
    ip: &Ip<F::Address>,
    content: &Payload,
    end: usize,
    scratch: &mut Scratch,
) -> Result<PacketKind, Reason> {
    scratch.fragment = content.fragment;
    scratch.fragment_id = content.fragment_id;
    let start = scratch.fragment_start();
    let len = end.wrapping_sub(content.shared_out);
    scratch.fragment_end = start + len as u32;
    // RFC 8200 §4.5: all but the last are multiples of 8 bytes long. None is longer than a packet.
    let is_torn = scratch.has_more_fragments() && !len.is_multiple_of(8);
    let is_misplaced = start as usize + len > MAX_PACKET;
    if len == 0 || is_torn || is_misplaced {
        return Err(Reason::BadFragment);
    }
    let has_ports = matches!(ip.protocol, TCP | UDP | SCTP);
    if start != 0 && (has_ports || F::V6) {
        // Over IPv6 its protocol may be that of an extension header which only the first one holds (RFC 8200 §4.5).
        return Ok(PacketKind::LaterFragment);
    }
    if !has_ports {
        return Err(Reason::Fragment);
    }
    first(packet, ip, end, scratch)?;
    Ok(PacketKind::FirstFragment)
}

/// The ports of a first fragment, which has to hold the whole transport header (RFC 1858 §4, RFC 7112 §5).
#[inline(always)]
fn first<P: Packet, A>(packet: &P, ip: &Ip<A>, end: usize, scratch: &mut Scratch) -> Result<(), Reason> {
    const SHORTEST: usize = 8;
    let transport = if ip.protocol == UDP {
        // Its length is that of the whole datagram.
        if end.saturating_sub(ip.transport) < SHORTEST {
            return Err(Reason::BadFragment);
        }
        let udp: &[u8; SHORTEST] = packet.view(ip.transport).ok_or(Reason::BadFragment)?;
        let ports = crate::net::load32(udp, 0);
        Transport { ports, flags: 0 }
    } else if ip.protocol == SCTP {
        sctp_ports(packet, ip).map_err(|_| Reason::BadFragment)?
    } else {
        parse::transport(packet, ip).map_err(|_| Reason::BadFragment)?
    };
    scratch.ports = transport.ports;
    scratch.outcome.tcp_flags = u16::from(transport.flags);
    Ok(())
}
