//! What the steps of the detour tell one another.

use open_enum::open_enum;

use crate::{
    abi::{FlowEnds, Reason, ServiceEntry, ServiceFlags, Trace},
    net::{ICMPV6, TCP, tcp},
    verifier::masked,
};

use super::super::{
    Outcome,
    family::Family,
    parse::{Ip, Transport},
};

/// What sort of packet it is.
#[open_enum]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PacketKind {
    /// A whole packet that shows its ports.
    Whole = 0,
    /// Of a protocol without ports, or its headers are broken: see [`Scratch::oddity`].
    NoPorts = 1,
    /// An ICMP echo request.
    Echo = 2,
    /// An ICMP error. The flow is that of the quoted packet, turned round.
    IcmpError = 3,
    /// The first fragment of a packet: it shows the ports.
    FirstFragment = 4,
    /// A later fragment: it shows none.
    LaterFragment = 5,
}

/// What is known of a packet so far. Whole words, so that it can be built on a BPF program's stack; a step of the
/// kernel build gets it as memory of this size with anything in it, and so masks what it uses as an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Scratch {
    /// Source of the flow, wide (see [`crate::abi::TargetEntry::addresses`]): its client.
    pub source: [u64; 2],
    /// Destination of the flow: its VIP.
    pub destination: [u64; 2],
    /// The flow's source port in the low half, destination port in the high half, wire order; 0 if there are none.
    pub ports: u32,
    /// 1 for IPv6.
    pub v6: u32,
    /// Where the IP header begins in the frame.
    pub network: u32,
    /// Where the transport header begins in the frame.
    pub transport: u32,
    /// Length of the IP packet.
    pub len: u32,
    /// The flow's transport protocol.
    pub protocol: u32,
    /// Type of service or traffic class.
    pub tos: u32,
    /// TTL or hop limit.
    pub ttl: u32,
    /// What sort of packet it is.
    pub kind: PacketKind,
    /// Why the headers behind the IP header cannot be relied on: a [`Reason`]'s number and 1, or 0.
    pub oddity: u32,
    /// VLAN tags in front of the IP header: 0 to 2.
    pub tags: u32,
    /// Where an ICMP error's quoted IP header begins in the frame.
    pub quote: u32,
    /// A fragment's offset within the packet that it is of, in bytes; bit 31 says that more follow.
    pub fragment: u32,
    /// A fragment's identification, as on the wire.
    pub fragment_id: u32,
    /// Where its service is looked for next: the [`crate::abi::Scope`] of its destination, or [`Scratch::NOWHERE`].
    pub scope: u32,
    /// Where a fragment's bytes end within the packet that it is of.
    pub fragment_end: u32,
    /// Where an ICMP error's quoted transport header begins in the frame.
    pub quoted_transport: u32,
    /// The [`Reason`] that the sender is to be told, as a number.
    pub answer: u32,
    /// Length of the longest IP packet that its way carries, if it is too long.
    pub max_len: u32,
    /// 1 if whoever sent it is no client: it is for no service.
    pub is_back: u32,
    /// 1 if its destination is a VIP with services of its protocol.
    pub is_for_vip: u32,
    /// [`ServiceFlags`] of the most exact VIP that its destination is, whatever the protocol.
    pub vip_flags: u32,
    /// The flow's hash: which slot it falls into.
    pub hash: u64,
    /// The flow's ends as its backend is to see them, where it is translated.
    pub to: FlowEnds,
    /// The service.
    pub service: ServiceEntry,
    /// What is told of it in the end.
    pub outcome: Outcome,
}

impl Scratch {
    /// Before anything is known.
    pub const NOTHING: Self = Self {
        source: [0; 2],
        destination: [0; 2],
        ports: 0,
        v6: 0,
        network: 0,
        transport: 0,
        len: 0,
        protocol: 0,
        tos: 0,
        ttl: 0,
        kind: PacketKind::Whole,
        oddity: 0,
        tags: 0,
        quote: 0,
        fragment: 0,
        fragment_id: 0,
        scope: 0,
        fragment_end: 0,
        quoted_transport: 0,
        answer: 0,
        max_len: 0,
        is_back: 0,
        is_for_vip: 0,
        vip_flags: 0,
        hash: 0,
        to: FlowEnds {
            source: [0; 2],
            destination: [0; 2],
            ports: 0,
            protocol: 0,
        },
        service: ServiceEntry {
            slot_line: 0,
            slot_mask: 0,
            flags: ServiceFlags::empty(),
            target_base: 0,
            id: 0,
        },
        outcome: Outcome::UNDECIDED,
    };

    /// All places where a service could be have been looked through.
    pub const NOWHERE: u32 = u32::MAX;

    /// Whether it is of that kind.
    #[inline(always)]
    pub const fn is(&self, kind: PacketKind) -> bool {
        self.kind.0 == kind.0
    }

    /// Whether it is for no service, so that it may be the answer of a backend.
    #[inline(always)]
    pub const fn is_for_no_service(&self) -> bool {
        self.outcome.service == Trace::NONE
    }

    /// Why it leaves if it is for no service: VIPs may refuse such packets. Neighbour discovery of the host's own is spared: it
    /// has the hop limit that no packet has which was forwarded (RFC 4861 §6.1.1, §7.1).
    #[inline(always)]
    pub fn for_no_service(&self) -> Reason {
        const NOT_FORWARDED: u32 = 255;
        let flags = ServiceFlags::from_bits_retain(self.vip_flags as u16);
        if self.protocol == u32::from(ICMPV6) && self.ttl == NOT_FORWARDED {
            Reason::NoService
        } else if flags.intersects(ServiceFlags::REJECT_UNSERVED) && self.shows_ports() {
            Reason::UnservedAnswered
        } else if flags.intersects(ServiceFlags::UNSERVED) {
            Reason::Unserved
        } else {
            Reason::NoService
        }
    }

    /// Whether it is still to be found out whom it is for.
    #[inline(always)]
    pub const fn is_looked_for(&self) -> bool {
        self.scope != Self::NOWHERE
    }

    /// The oddity, if there is one.
    #[inline(always)]
    pub fn oddity(&self) -> Option<Reason> {
        Reason::from_number(self.oddity.wrapping_sub(1))
    }

    /// The flow's destination port, wire order.
    #[inline(always)]
    pub const fn destination_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// The flow's source port, wire order.
    #[inline(always)]
    pub const fn source_port(&self) -> u16 {
        self.ports as u16
    }

    /// No header that is looked at begins further on: a mask, for the verifier.
    pub(super) const MAX_OFFSET: usize = 0x3ff;
    /// In [`Scratch::fragment`]: more fragments follow.
    pub const MORE_FRAGMENTS: u32 = 1 << 31;

    /// Whether its flow is known by ports.
    #[inline(always)]
    pub const fn shows_ports(&self) -> bool {
        !(self.is(PacketKind::NoPorts)
            || self.is(PacketKind::Echo)
            || self.is(PacketKind::LaterFragment) && self.ports == 0)
    }

    /// Whether it is a TCP segment with SYN, which tells how large segments may be.
    #[inline(always)]
    pub const fn has_syn(&self) -> bool {
        self.protocol == TCP as u32 && tcp::has_syn(self.outcome.tcp_flags as u8)
    }

    /// Where a fragment's bytes begin within the packet that it is of.
    #[inline(always)]
    pub const fn fragment_start(&self) -> u32 {
        self.fragment & 0xffff
    }

    /// Whether more fragments follow it.
    #[inline(always)]
    pub const fn has_more_fragments(&self) -> bool {
        self.fragment & Self::MORE_FRAGMENTS != 0
    }

    /// Makes it a packet whose headers cannot be relied on, for that reason.
    #[inline(always)]
    pub const fn set_oddity(&mut self, reason: Reason) {
        self.oddity = reason.number() + 1;
    }

    /// Whether its backend is known already.
    #[inline(always)]
    pub const fn is_placed(&self) -> bool {
        self.outcome.target != Trace::NONE
    }

    /// Its IP header, for what takes one.
    #[inline(always)]
    pub(super) fn ip<F: Family>(&self) -> Ip<F::Address> {
        Ip {
            source: F::narrow(self.source),
            destination: F::narrow(self.destination),
            protocol: self.protocol as u8,
            tos: self.tos as u8,
            ttl: self.ttl as u8,
            len: self.len as u16,
            network: offset(self.network),
            transport: offset(self.transport),
            oddity: None,
        }
    }

    /// Whether the tables may remember it: neither what is only explained nor an error about a flow is of the flow.
    #[inline(always)]
    pub(super) const fn leaves_traces(&self, is_explained: bool) -> bool {
        !is_explained && !self.is(PacketKind::IcmpError)
    }

    /// The IP header begins at `at` of the frame now, and all behind it has moved with it.
    #[inline(always)]
    pub(super) const fn move_to(&mut self, at: u32) {
        let by = at.wrapping_sub(self.network);
        self.network = at;
        self.transport = self.transport.wrapping_add(by);
        self.quote = self.quote.wrapping_add(by);
        self.quoted_transport = self.quoted_transport.wrapping_add(by);
    }

    /// The flow's ends.
    #[inline(always)]
    pub(super) const fn ends(&self) -> FlowEnds {
        FlowEnds {
            source: self.source,
            destination: self.destination,
            ports: self.ports,
            protocol: self.protocol,
        }
    }

    /// Its transport header, for what takes one.
    #[inline(always)]
    pub(super) fn transport(&self) -> Transport {
        Transport {
            ports: self.ports,
            flags: self.outcome.tcp_flags as u8,
        }
    }
}

/// An offset of a header as one that the verifier believes.
#[inline(always)]
pub(super) fn offset(at: u32) -> usize {
    within_headers(at as usize)
}

/// An offset that was worked out from a packet, as one that the verifier believes.
#[inline(always)]
pub(super) fn within_headers(at: usize) -> usize {
    masked::<{ Scratch::MAX_OFFSET }>(at)
}

const _: () = assert!(size_of::<Scratch>() == 208);
