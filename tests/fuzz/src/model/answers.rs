//! What the balancer says itself: echo replies, ICMP errors, TCP resets.

use std::net::IpAddr;

use lb_common::abi::Reason;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, checksum};

use super::{
    Expected, Mistake, Model, RST,
    parse::{Content, Parsed},
    rewrite::{fill_header_sum, refreshed},
};
use crate::world::OWN;

/// TTL and ToS (network control) of its own packets.
const TTL: u8 = 64;
const TOS: u8 = 0xc0;

/// What a sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing longer goes further.
    TooBig(u16),
    TimeExceeded,
    /// Nobody is there.
    Rejected,
    /// No service is there.
    Unserved,
    /// No source address and port is left to reach a backend from.
    NoSource,
}

impl Answer {
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::TooBig(_) => Reason::TooBigAnswered,
            Self::TimeExceeded => Reason::TtlAnswered,
            Self::Rejected => Reason::Rejected,
            Self::Unserved => Reason::UnservedAnswered,
            Self::NoSource => Reason::NoSourcePortAnswered,
        }
    }
}

/// Whether the address is that of one host (RFC 1122 §3.2.1.3, RFC 4443 §2.4 (e)).
fn is_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified() && !v6.is_loopback(),
    }
}

impl Model<'_> {
    /// What a client is told. Time exceeded is said in the balancer's own name (RFC 1812 §4.3.2.4).
    pub(super) fn answer(&self, parsed: &Parsed, frame: &[u8], answer: Answer) -> Option<Expected> {
        let from = match answer {
            Answer::TimeExceeded => OWN[usize::from(parsed.is_v6())],
            Answer::TooBig(_) | Answer::Rejected | Answer::Unserved | Answer::NoSource => parsed.destination,
        };
        self.answer_as(from, parsed, frame, answer)
    }

    /// What a backend is told, all in the balancer's own name.
    pub(super) fn answer_backend(&self, parsed: &Parsed, frame: &[u8], answer: Answer) -> Option<Expected> {
        self.answer_as(OWN[usize::from(parsed.is_v6())], parsed, frame, answer)
    }

    fn answer_as(&self, from: IpAddr, parsed: &Parsed, frame: &[u8], answer: Answer) -> Option<Expected> {
        let refuses = matches!(answer, Answer::Rejected | Answer::Unserved | Answer::NoSource);
        let is_reset = refuses && parsed.protocol == IpProtocol::Tcp;
        let is_answerable = match &parsed.content {
            Content::Ported { flags, .. } if is_reset => parsed.piece.is_none() && flags & RST == 0,
            Content::Ported { .. } => parsed.piece.is_none() || parsed.is_first_fragment(),
            _ => false,
        };
        // RFC 1122 §3.2.2: not about what came from or to more than one host.
        if !is_answerable || !is_from_one_to_one(parsed, frame) {
            return None;
        }
        let all = self.errs(Mistake::LongQuotes);
        let frame = if is_reset {
            reset(parsed, frame)
        } else {
            error(from, parsed, frame, answer, all)
        };
        Some(super::sent(answer.reason(), frame))
    }
}

/// Whether the packet is from one host to one, and not to or from several.
pub(super) fn is_from_one_to_one(parsed: &Parsed, frame: &[u8]) -> bool {
    frame[0] & 1 == 0 && is_one_host(parsed.source)
}

/// The link's header with its tags, sent back.
fn link_back(parsed: &Parsed, frame: &[u8]) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..parsed.at]].concat()
}

/// The reply to an echo request, and where its checksum stands if the request's was wrong.
pub(super) fn echo(parsed: &Parsed, frame: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut ip = frame[parsed.at..].to_vec();
    let (icmp, end) = (parsed.transport, parsed.len);
    let sum = |ip: &[u8]| {
        let own = u16::from_be_bytes([ip[icmp + 2], ip[icmp + 3]]);
        let mut bytes = ip[icmp..end].to_vec();
        bytes[2..4].fill(0);
        let pseudo = if parsed.is_v6() {
            pseudo(ip, IpProtocol::Icmpv6, end - icmp)
        } else {
            0
        };
        (own, checksum::combine(&[pseudo, checksum::data(&bytes)]))
    };
    let (old, before) = sum(&ip);
    let mut loose = Vec::new();
    if parsed.is_v6() {
        let (source, destination) = (ip[8..24].to_vec(), ip[24..40].to_vec());
        ip[8..24].copy_from_slice(&destination);
        ip[24..40].copy_from_slice(&source);
        ip[7] = TTL;
        ip[icmp] = 129;
    } else {
        let header = ip.clone();
        ip[12..16].copy_from_slice(&header[16..20]);
        ip[16..20].copy_from_slice(&header[12..16]);
        ip[8] = TTL;
        if fill_header_sum(&header, &mut ip) {
            loose.push(parsed.at + 10);
        }
        ip[icmp] = 0;
    }
    let (_, after) = sum(&ip);
    let (new, was_wrong) = refreshed(old, before, after);
    ip[icmp + 2..icmp + 4].copy_from_slice(&new.to_be_bytes());
    if was_wrong {
        loose.push(parsed.at + icmp + 2);
    }
    ([link_back(parsed, frame), ip].concat(), loose)
}

/// The sum over the pseudo header of an IP packet.
fn pseudo(ip: &[u8], protocol: IpProtocol, len: usize) -> u16 {
    if ip[0] >> 4 == 6 {
        let ip = Ipv6Packet::new_unchecked(ip);
        checksum::pseudo_header_v6(&ip.src_addr(), &ip.dst_addr(), protocol, len as u32)
    } else {
        let ip = Ipv4Packet::new_unchecked(ip);
        checksum::pseudo_header_v4(&ip.src_addr(), &ip.dst_addr(), protocol, len as u32)
    }
}

/// An IP header of the balancer's own, `from` there in answer to `parsed`.
fn header(from: IpAddr, parsed: &Parsed, protocol: IpProtocol, payload: usize) -> Vec<u8> {
    match (from, parsed.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut bytes = vec![0; 20];
            let mut ip = Ipv4Packet::new_unchecked(&mut bytes);
            ip.set_version(4);
            ip.set_header_len(20);
            ip.set_dscp(TOS >> 2);
            ip.set_total_len((20 + payload) as u16);
            ip.set_dont_frag(true);
            ip.set_hop_limit(TTL);
            ip.set_next_header(protocol);
            ip.set_src_addr(from);
            ip.set_dst_addr(to);
            ip.fill_checksum();
            bytes
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut bytes = vec![0; 40];
            let mut ip = Ipv6Packet::new_unchecked(&mut bytes);
            ip.set_version(6);
            ip.set_traffic_class(TOS);
            ip.set_payload_len(payload as u16);
            ip.set_hop_limit(TTL);
            ip.set_next_header(protocol);
            ip.set_src_addr(from);
            ip.set_dst_addr(to);
            bytes
        }
        _ => Vec::new(),
    }
}

/// An ICMP error about the packet (RFC 792, 1191, 1812 §4.3.2.3; RFC 4443 §3). `all` quotes more than may be.
pub(super) fn error(from: IpAddr, parsed: &Parsed, frame: &[u8], answer: Answer, all: bool) -> Vec<u8> {
    let (kind, word) = match (answer, parsed.is_v6()) {
        (Answer::TooBig(mtu), false) => ([3, 4], u32::from(mtu)),
        (Answer::TooBig(mtu), true) => ([2, 0], u32::from(mtu)),
        (Answer::TimeExceeded, false) => ([11, 0], 0),
        (Answer::TimeExceeded, true) => ([3, 0], 0),
        (Answer::Rejected | Answer::Unserved | Answer::NoSource, false) => ([3, 3], 0),
        (Answer::Rejected | Answer::Unserved | Answer::NoSource, true) => ([1, 4], 0),
    };
    let room = if parsed.is_v6() { 1280 - 48 } else { 576 - 28 };
    let quoted = if all { parsed.len } else { parsed.len.min(room) };
    let quote = &frame[parsed.at..parsed.at + quoted];
    let mut icmp = [&kind[..], &[0, 0], &word.to_be_bytes(), quote].concat();
    let protocol = if parsed.is_v6() {
        IpProtocol::Icmpv6
    } else {
        IpProtocol::Icmp
    };
    let header = header(from, parsed, protocol, icmp.len());
    let pseudo = if parsed.is_v6() {
        pseudo(&header, protocol, icmp.len())
    } else {
        0
    };
    let sum = !checksum::combine(&[pseudo, checksum::data(&icmp)]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    [link_back(parsed, frame), header, icmp].concat()
}

/// The reset of a segment's connection (RFC 9293 §3.10.7.1).
pub(super) fn reset(parsed: &Parsed, frame: &[u8]) -> Vec<u8> {
    let segment = TcpPacket::new_unchecked(&frame[parsed.at + parsed.transport..parsed.at + parsed.len]);
    let mut bytes = vec![0; 20];
    let mut tcp = TcpPacket::new_unchecked(&mut bytes);
    tcp.set_src_port(segment.dst_port());
    tcp.set_dst_port(segment.src_port());
    tcp.set_header_len(20);
    tcp.set_rst(true);
    if segment.ack() {
        tcp.set_seq_number(segment.ack_number());
    } else {
        let data = parsed.len - parsed.transport - usize::from(segment.header_len());
        let counted = data + usize::from(segment.syn()) + usize::from(segment.fin());
        tcp.set_ack(true);
        tcp.set_ack_number(segment.seq_number() + counted);
    }
    tcp.fill_checksum(&parsed.destination.into(), &parsed.source.into());
    [
        link_back(parsed, frame),
        header(parsed.destination, parsed, IpProtocol::Tcp, 20),
        bytes,
    ]
    .concat()
}
