//! A packet's new front: outer headers of a tunnel, VLAN tags, MACs.
//!
//! Invariant: the packet inside stays as it is but for the hop that it takes (RFC 2003 §3.1).

use crate::{
    abi::{Forward, Reason, Tags, Target},
    net::{ETHERNET, UDP, store16, store32, store64},
};

use super::{
    Packet, Tables,
    family::{ETHER_TYPE, Family, Outer, V4, V6},
};

/// GRE (RFC 2784).
const GRE: u8 = 47;
/// Lengths of the headers between the outer IP header and the packet.
const UDP_HEADER: usize = 8;
const GUE_HEADER: usize = 4;
const GRE_HEADER: usize = 4;
/// No front is longer: two tags, IPv6, UDP and GUE come to 74 bytes. A mask, for the verifier.
const MAX_FRONT: usize = 0x7f;
/// The header was there before the frame grew; the verifier wants it checked all the same.
const SEEN_BEFORE: Reason = Reason::Truncated;

/// A packet that is to get a new front. Whole words, so that it can be built on a BPF program's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Wrap {
    /// The flow's hash: spreads a backend's tunnel traffic over its receive queues.
    pub hash: u64,
    /// Index of the target.
    pub target: u32,
    /// Where the IP header begins in the frame.
    pub network: u32,
    /// Length of the IP packet.
    pub len: u32,
    /// Type of service or traffic class.
    pub tos: u16,
    /// 1 for an IPv6 packet.
    pub v6: u16,
}

/// What a forwarder puts around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shell {
    /// Nothing.
    None,
    /// An outer IPv4 header.
    V4,
    /// An outer IPv6 header.
    V6,
}

/// What a forwarder puts between the outer IP header and the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    /// UDP, and behind it the header of GUE or nothing.
    Udp {
        gue: bool,
    },
    Gre,
}

/// Whether a forwarder, by its number, does no more than give the packet a new front.
#[inline(always)]
pub(super) const fn wraps(forward: u8) -> bool {
    const NAT: u8 = Forward::Nat as u8;
    const FIRST: u8 = Forward::L2dsr as u8;
    const LAST: u8 = Forward::Gre6 as u8;
    FIRST <= forward && forward <= LAST && forward != NAT
}

/// Gives a packet the front that its target asks for.
///
/// # Errors
/// Why it cannot be done; the packet is as it came then.
#[inline(always)]
pub fn wrap<P: Packet, T: Tables>(packet: &mut P, tables: &T, wrap: &Wrap) -> Result<(), Reason> {
    let target = tables.target(wrap.target).ok_or(Reason::Unresolved)?;
    let (shell, between) = layers(target.forward).ok_or(Reason::Unresolved)?;
    let tags = tags_of(tables, wrap.target, target);
    let at = ETHERNET + tags.len();
    let front = at + shell.len() + between.len();
    move_start(packet, wrap.network as usize, front)?;

    let forwarded = match wrap.v6 {
        0 => V4::forwarded(packet, front & MAX_FRONT, None),
        _ => V6::forwarded(packet, front & MAX_FRONT, None),
    };
    forwarded.ok_or(SEEN_BEFORE)?;
    write_shell(packet, at, target, shell, between, wrap).ok_or(SEEN_BEFORE)?;
    write_link(packet, (target.macs_head, target.macs_tail), tags).ok_or(SEEN_BEFORE)
}

/// The VLAN tags of frames to a target.
#[inline(always)]
pub(super) fn tags_of<T: Tables>(tables: &T, index: u32, target: &Target) -> Tags {
    if target.tags == 0 {
        return Tags::NONE;
    }
    tables.tags(index).copied().unwrap_or_default()
}

/// Moves the frame's start so that what stands at `from` stands at `to`.
#[inline(always)]
pub(super) fn move_start<P: Packet>(packet: &mut P, from: usize, to: usize) -> Result<(), Reason> {
    let moved = packet.grow(to as i32 - from as i32);
    if moved { Ok(()) } else { Err(Reason::NoHeadroom) }
}

#[inline(always)]
fn layers(forward: u8) -> Option<(Shell, Between)> {
    const L2DSR: u8 = Forward::L2dsr as u8;
    const IPIP4: u8 = Forward::Ipip4 as u8;
    const IPIP6: u8 = Forward::Ipip6 as u8;
    const GUE4: u8 = Forward::Gue4 as u8;
    const GUE6: u8 = Forward::Gue6 as u8;
    const FOU4: u8 = Forward::Fou4 as u8;
    const FOU6: u8 = Forward::Fou6 as u8;
    const GRE4: u8 = Forward::Gre4 as u8;
    const GRE6: u8 = Forward::Gre6 as u8;
    Some(match forward {
        L2DSR => (Shell::None, Between::Nothing),
        IPIP4 => (Shell::V4, Between::Nothing),
        IPIP6 => (Shell::V6, Between::Nothing),
        GUE4 => (Shell::V4, Between::Udp { gue: true }),
        GUE6 => (Shell::V6, Between::Udp { gue: true }),
        FOU4 => (Shell::V4, Between::Udp { gue: false }),
        FOU6 => (Shell::V6, Between::Udp { gue: false }),
        GRE4 => (Shell::V4, Between::Gre),
        GRE6 => (Shell::V6, Between::Gre),
        _ => return None,
    })
}

impl Shell {
    #[inline(always)]
    const fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::V4 => V4::HEADER,
            Self::V6 => V6::HEADER,
        }
    }
}

impl Between {
    #[inline(always)]
    const fn len(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Udp { gue: true } => UDP_HEADER + GUE_HEADER,
            Self::Udp { gue: false } => UDP_HEADER,
            Self::Gre => GRE_HEADER,
        }
    }
}

/// Writes the headers from the outer IP header, at `at`, to the packet, or the packet's EtherType if there are none.
#[inline(always)]
fn write_shell<P: Packet>(
    packet: &mut P,
    at: usize,
    target: &Target,
    shell: Shell,
    between: Between,
    wrap: &Wrap,
) -> Option<()> {
    let (inner_protocol, inner_type) = match wrap.v6 {
        0 => (V4::IN_IP, V4::ETHER_TYPE),
        _ => (V6::IN_IP, V6::ETHER_TYPE),
    };
    let outer = Outer {
        protocol: match between {
            Between::Nothing => inner_protocol,
            Between::Udp { .. } => UDP,
            Between::Gre => GRE,
        },
        tos: wrap.tos as u8,
        len: (wrap.len as u16).wrapping_add(between.len() as u16),
        hash: wrap.hash,
    };
    match shell {
        Shell::None => write_ether_type(packet, at, inner_type)?,
        Shell::V4 => V4::write_outer(packet, at, target, &outer)?,
        Shell::V6 => V6::write_outer(packet, at, target, &outer)?,
    }
    let at = at + shell.len();
    match between {
        Between::Nothing => {}
        Between::Udp { gue } => {
            let udp: &mut [u8; UDP_HEADER] = packet.view_mut(at)?;
            store64(udp, 0, udp_header(target.backend_port, outer.len, wrap.hash));
            if gue {
                // Version 0, no flags and no optional fields: what counts is the protocol inside
                // (draft-ietf-intarea-gue §3).
                let header: &mut [u8; GUE_HEADER] = packet.view_mut(at + UDP_HEADER)?;
                *header = [0, inner_protocol, 0, 0];
            }
        }
        Between::Gre => {
            // RFC 2784 §2.1: no checksum, version 0, and the EtherType of what is inside.
            let gre: &mut [u8; GRE_HEADER] = packet.view_mut(at)?;
            store32(gre, 0, u32::from(inner_type) << 16);
        }
    }
    Some(())
}

/// A tunnel's UDP header. The source port varies with the flow within the dynamic ports (RFC 6335 §6); there is no
/// checksum, which RFC 6935 §5 allows tunnels over IPv6, too: the packet inside has its own.
#[inline(always)]
fn udp_header(port: u16, len: u16, hash: u64) -> u64 {
    let from = (0xc000 | (hash >> 8) as u16 & 0x3fff).to_be();
    u64::from(from) | u64::from(port) << 16 | u64::from(len.to_be()) << 32
}

/// Writes the EtherType of the IP header at `at`.
#[inline(always)]
pub(super) fn write_ether_type<P: Packet>(packet: &mut P, at: usize, value: u16) -> Option<()> {
    let ether_type: &mut [u8; ETHER_TYPE] = packet.view_mut((at - ETHER_TYPE) & MAX_FRONT)?;
    store16(ether_type, 0, value);
    Some(())
}

/// Writes MACs, laid out as in [`Target`], and tags in front of the EtherType.
#[inline(always)]
pub(super) fn write_link<P: Packet>(packet: &mut P, (head, tail): (u64, u32), tags: Tags) -> Option<()> {
    let Tags([outer, inner]) = tags;
    if outer != 0 {
        let tag: &mut [u8; 4] = packet.view_mut(12)?;
        store32(tag, 0, outer);
    }
    if inner != 0 {
        let tag: &mut [u8; 4] = packet.view_mut(16)?;
        store32(tag, 0, inner);
    }
    let macs: &mut [u8; 12] = packet.view_mut(0)?;
    store64(macs, 0, head);
    store32(macs, 8, tail);
    Some(())
}
