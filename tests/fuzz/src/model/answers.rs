//! What the balancer says itself: echo replies, ICMP errors, TCP resets.

use std::net::IpAddr;

use lb_common::abi::Reason;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, checksum};

use super::{
    Mistake, Model, RST, Said,
    read::{Content, Read},
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
    /// No place is left to reach a backend from.
    NoPlace,
}

impl Answer {
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::TooBig(_) => Reason::TooBigAnswered,
            Self::TimeExceeded => Reason::TtlAnswered,
            Self::Rejected => Reason::Rejected,
            Self::Unserved => Reason::UnservedAnswered,
            Self::NoPlace => Reason::NoSourcePortAnswered,
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
    pub(super) fn answer(&self, read: &Read, frame: &[u8], answer: Answer) -> Option<Said> {
        let from = match answer {
            Answer::TimeExceeded => OWN[usize::from(read.is_v6())],
            Answer::TooBig(_) | Answer::Rejected | Answer::Unserved | Answer::NoPlace => read.destination,
        };
        self.answer_as(from, read, frame, answer)
    }

    /// What a backend is told, all in the balancer's own name.
    pub(super) fn answer_backend(&self, read: &Read, frame: &[u8], answer: Answer) -> Option<Said> {
        self.answer_as(OWN[usize::from(read.is_v6())], read, frame, answer)
    }

    fn answer_as(&self, from: IpAddr, read: &Read, frame: &[u8], answer: Answer) -> Option<Said> {
        let refuses = matches!(answer, Answer::Rejected | Answer::Unserved | Answer::NoPlace);
        let is_reset = refuses && read.protocol == IpProtocol::Tcp;
        let is_answerable = match &read.content {
            Content::Ported { flags, .. } if is_reset => read.piece.is_none() && flags & RST == 0,
            Content::Ported { .. } => read.piece.is_none() || read.is_first_fragment(),
            _ => false,
        };
        // RFC 1122 §3.2.2: not about what came from or to more than one host.
        if !is_answerable || !is_from_one_to_one(read, frame) {
            return None;
        }
        let all = self.errs(Mistake::LongQuotes);
        let frame = if is_reset {
            reset(read, frame)
        } else {
            error(from, read, frame, answer, all)
        };
        Some(super::sent(answer.reason(), frame))
    }
}

/// Whether the packet is from one host to one, and not to or from several.
pub(super) fn is_from_one_to_one(read: &Read, frame: &[u8]) -> bool {
    frame[0] & 1 == 0 && is_one_host(read.source)
}

/// The link's header with its tags, sent back.
fn link_back(read: &Read, frame: &[u8]) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..read.at]].concat()
}

/// The reply to an echo request, and where its checksum stands if the request's was wrong.
pub(super) fn echo(read: &Read, frame: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut ip = frame[read.at..].to_vec();
    let (icmp, end) = (read.transport, read.len);
    let sum = |ip: &[u8]| {
        let own = u16::from_be_bytes([ip[icmp + 2], ip[icmp + 3]]);
        let mut bytes = ip[icmp..end].to_vec();
        bytes[2..4].fill(0);
        let pseudo = if read.is_v6() {
            pseudo(ip, IpProtocol::Icmpv6, end - icmp)
        } else {
            0
        };
        (own, checksum::combine(&[pseudo, checksum::data(&bytes)]))
    };
    let (old, before) = sum(&ip);
    let mut loose = Vec::new();
    if read.is_v6() {
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
            loose.push(read.at + 10);
        }
        ip[icmp] = 0;
    }
    let (_, after) = sum(&ip);
    let (new, was_wrong) = refreshed(old, before, after);
    ip[icmp + 2..icmp + 4].copy_from_slice(&new.to_be_bytes());
    if was_wrong {
        loose.push(read.at + icmp + 2);
    }
    ([link_back(read, frame), ip].concat(), loose)
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

/// An IP header of the balancer's own, `from` there in answer to `read`.
fn header(from: IpAddr, read: &Read, protocol: IpProtocol, payload: usize) -> Vec<u8> {
    match (from, read.source) {
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
pub(super) fn error(from: IpAddr, read: &Read, frame: &[u8], answer: Answer, all: bool) -> Vec<u8> {
    let (kind, word) = match (answer, read.is_v6()) {
        (Answer::TooBig(mtu), false) => ([3, 4], u32::from(mtu)),
        (Answer::TooBig(mtu), true) => ([2, 0], u32::from(mtu)),
        (Answer::TimeExceeded, false) => ([11, 0], 0),
        (Answer::TimeExceeded, true) => ([3, 0], 0),
        (Answer::Rejected | Answer::Unserved | Answer::NoPlace, false) => ([3, 3], 0),
        (Answer::Rejected | Answer::Unserved | Answer::NoPlace, true) => ([1, 4], 0),
    };
    let room = if read.is_v6() { 1280 - 48 } else { 576 - 28 };
    let quoted = if all { read.len } else { read.len.min(room) };
    let quote = &frame[read.at..read.at + quoted];
    let mut icmp = [&kind[..], &[0, 0], &word.to_be_bytes(), quote].concat();
    let protocol = if read.is_v6() {
        IpProtocol::Icmpv6
    } else {
        IpProtocol::Icmp
    };
    let header = header(from, read, protocol, icmp.len());
    let pseudo = if read.is_v6() {
        pseudo(&header, protocol, icmp.len())
    } else {
        0
    };
    let sum = !checksum::combine(&[pseudo, checksum::data(&icmp)]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    [link_back(read, frame), header, icmp].concat()
}

/// The reset of a segment's connection (RFC 9293 §3.10.7.1).
pub(super) fn reset(read: &Read, frame: &[u8]) -> Vec<u8> {
    let segment = TcpPacket::new_unchecked(&frame[read.at + read.transport..read.at + read.len]);
    let mut bytes = vec![0; 20];
    let mut tcp = TcpPacket::new_unchecked(&mut bytes);
    tcp.set_src_port(segment.dst_port());
    tcp.set_dst_port(segment.src_port());
    tcp.set_header_len(20);
    tcp.set_rst(true);
    if segment.ack() {
        tcp.set_seq_number(segment.ack_number());
    } else {
        let data = read.len - read.transport - usize::from(segment.header_len());
        let counted = data + usize::from(segment.syn()) + usize::from(segment.fin());
        tcp.set_ack(true);
        tcp.set_ack_number(segment.seq_number() + counted);
    }
    tcp.fill_checksum(&read.destination.into(), &read.source.into());
    [
        link_back(read, frame),
        header(read.destination, read, IpProtocol::Tcp, 20),
        bytes,
    ]
    .concat()
}
