//! A packet's new front: outer headers of a tunnel, VLAN tags, MACs.
//!
//! Invariant: the packet inside stays as it is but for the hop that it takes (RFC 2003 §3.1).

use crate::{
    abi::{Forward, Reason, TagsEntry, TargetEntry},
    net::{ETHERNET, GRE, GRE_HEADER, GUE_HEADER, MACS, UDP, UDP_HEADER, store16, store32, store64},
};

use super::{
    Packet, ServiceTables, Wrap,
    family::{ETHER_TYPE, Family, Outer, V4, V6},
};

/// No front is longer: two tags, IPv6, UDP and GUE come to 74 bytes. A mask, for the verifier.
const MAX_FRONT: usize = 0x7f;
/// The header was there before the frame grew; the verifier wants it checked all the same.
const SEEN_BEFORE: Reason = Reason::Truncated;

/// The outer IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OuterHeader {
    None,
    V4,
    V6,
}

/// What stands between the outer IP header and the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TunnelHeader {
    Nothing,
    /// UDP, and behind it the header of GUE or nothing.
    Udp {
        gue: bool,
    },
    Gre,
}

/// What a packet gets in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Encapsulation {
    /// Bytes of VLAN tags.
    tags: usize,
    shell: OuterHeader,
    between: TunnelHeader,
}

/// Whether a forwarder does no more than give the packet a new front.
#[inline(always)]
pub(super) const fn wraps(forward: Forward) -> bool {
    const FIRST: u8 = Forward::L2dsr.0;
    const LAST: u8 = Forward::Gre6.0;
    FIRST <= forward.0 && forward.0 <= LAST && forward.0 != Forward::Nat.0
}

/// Length of what a forwarder puts in front of an IP packet, without the link's header.
pub const fn overhead(forward: Forward) -> usize {
    match Encapsulation::of(forward, 0) {
        Some(front) => front.len() - ETHERNET,
        None => 0,
    }
}

/// Gives any packet the front that its target asks for.
///
/// # Errors
/// Why it cannot be done; the packet is as it came then.
#[inline(always)]
pub fn wrap<P: Packet, T: ServiceTables>(packet: &mut P, tables: &T, wrap: Wrap) -> Result<(), Reason> {
    let target = tables.target(wrap.target).ok_or(Reason::Unresolved)?;
    let tags = tables.tags(wrap.target).ok_or(Reason::Unresolved)?;
    let front = Encapsulation::of(target.forward, tags_len(target)).ok_or(Reason::Unresolved)?;
    move_start(packet, wrap.network as usize, front.len())?;
    write_tags(packet, front.tags, *tags).ok_or(SEEN_BEFORE)?;
    front.write(packet, target, wrap).ok_or(SEEN_BEFORE)
}

/// Gives an untagged packet the front of that forwarder, a constant; its target has no tags.
///
/// # Errors
/// As [`wrap`].
#[inline(always)]
pub(super) fn wrap_plain<P: Packet>(
    packet: &mut P,
    target: &TargetEntry,
    forward: Forward,
    wrap: Wrap,
) -> Result<(), Reason> {
    let front = Encapsulation::of(forward, 0).ok_or(Reason::Unresolved)?;
    move_start(packet, wrap.network as usize, front.len())?;
    front.write(packet, target, wrap).ok_or(SEEN_BEFORE)
}

/// Bytes of VLAN tags of frames to a target.
#[inline(always)]
pub(super) const fn tags_len(target: &TargetEntry) -> usize {
    // All that the field says, and what the verifier needs to know of it.
    (target.tags & 0xc) as usize
}

/// Moves the frame's start so that what stands at `from` stands at `to`.
#[inline(always)]
pub(super) fn move_start<P: Packet>(packet: &mut P, from: usize, to: usize) -> Result<(), Reason> {
    if from == to || packet.grow(to as i32 - from as i32) {
        Ok(())
    } else {
        Err(Reason::NoHeadroom)
    }
}

impl Encapsulation {
    #[inline(always)]
    const fn of(forward: Forward, tags: usize) -> Option<Self> {
        let (shell, between) = match forward {
            Forward::L2dsr => (OuterHeader::None, TunnelHeader::Nothing),
            Forward::Ipip4 => (OuterHeader::V4, TunnelHeader::Nothing),
            Forward::Ipip6 => (OuterHeader::V6, TunnelHeader::Nothing),
            Forward::Gue4 => (OuterHeader::V4, TunnelHeader::Udp { gue: true }),
            Forward::Gue6 => (OuterHeader::V6, TunnelHeader::Udp { gue: true }),
            Forward::Fou4 => (OuterHeader::V4, TunnelHeader::Udp { gue: false }),
            Forward::Fou6 => (OuterHeader::V6, TunnelHeader::Udp { gue: false }),
            Forward::Gre4 => (OuterHeader::V4, TunnelHeader::Gre),
            Forward::Gre6 => (OuterHeader::V6, TunnelHeader::Gre),
            _ => return None,
        };
        Some(Self { tags, shell, between })
    }

    /// Where the outer IP header ends, or would begin.
    #[inline(always)]
    const fn behind_shell(self) -> usize {
        ETHERNET
            + self.tags
            + match self.shell {
                OuterHeader::None => 0,
                OuterHeader::V4 => V4::HEADER,
                OuterHeader::V6 => V6::HEADER,
            }
    }

    #[inline(always)]
    const fn between_len(self) -> usize {
        match self.between {
            TunnelHeader::Nothing => 0,
            TunnelHeader::Udp { gue: true } => UDP_HEADER + GUE_HEADER,
            TunnelHeader::Udp { gue: false } => UDP_HEADER,
            TunnelHeader::Gre => GRE_HEADER,
        }
    }

    /// Length of all of it.
    #[inline(always)]
    const fn len(self) -> usize {
        self.behind_shell() + self.between_len()
    }

    /// Writes all but the tags, and takes a hop off the packet behind.
    #[inline(always)]
    fn write<P: Packet>(self, packet: &mut P, target: &TargetEntry, wrap: Wrap) -> Option<()> {
        let at = self.len() & MAX_FRONT;
        let (inner, ether_type) = match wrap.v6 {
            0 => {
                V4::forwarded(packet, at, None)?;
                (V4::IN_IP, V4::ETHER_TYPE)
            }
            _ => {
                V6::forwarded(packet, at, None)?;
                (V6::IN_IP, V6::ETHER_TYPE)
            }
        };
        let outer = Outer {
            protocol: match self.between {
                TunnelHeader::Nothing => inner,
                TunnelHeader::Udp { .. } => UDP,
                TunnelHeader::Gre => GRE,
            },
            tos: wrap.tos as u8,
            len: (wrap.len as u16).wrapping_add(self.between_len() as u16),
            hash: wrap.hash,
        };
        match self.shell {
            OuterHeader::None => write_ether_type(packet, self.tags, ether_type)?,
            OuterHeader::V4 => V4::write_outer(packet, MACS + self.tags, target, &outer)?,
            OuterHeader::V6 => V6::write_outer(packet, MACS + self.tags, target, &outer)?,
        }
        match self.between {
            TunnelHeader::Nothing => {}
            TunnelHeader::Udp { gue } => {
                let udp: &mut [u8; UDP_HEADER] = packet.view_mut(self.behind_shell())?;
                store64(udp, 0, udp_header(target.backend_port, outer.len, wrap.hash));
                if gue {
                    // Version 0, no flags and no optional fields: what counts is the protocol inside
                    // (draft-ietf-intarea-gue §3).
                    let header: &mut [u8; GUE_HEADER] = packet.view_mut(self.behind_shell() + UDP_HEADER)?;
                    store32(header, 0, u32::from(inner) << 8);
                }
            }
            TunnelHeader::Gre => {
                // RFC 2784 §2.1: no checksum, version 0, and the EtherType of what is inside.
                let gre: &mut [u8; GRE_HEADER] = packet.view_mut(self.behind_shell())?;
                store32(gre, 0, u32::from(ether_type) << 16);
            }
        }
        write_macs(packet, (target.macs_head, target.macs_tail))
    }
}

/// A tunnel's UDP header. The source port varies with the flow within the dynamic ports (RFC 6335 §6); there is no
/// checksum, which RFC 6935 §5 allows tunnels over IPv6, too: the packet inside has its own.
#[inline(always)]
fn udp_header(port: u16, len: u16, hash: u64) -> u64 {
    let from = (0xc000 | (hash >> 8) as u16 & 0x3fff).to_be();
    u64::from(from) | u64::from(port) << 16 | u64::from(len.to_be()) << 32
}

/// Writes the EtherType behind that many bytes of tags.
#[inline(always)]
fn write_ether_type<P: Packet>(packet: &mut P, tags: usize, value: u16) -> Option<()> {
    let ether_type: &mut [u8; ETHER_TYPE] = packet.view_mut(MACS + tags)?;
    store16(ether_type, 0, value);
    Some(())
}

/// Writes tags of that many bytes, and what a longer run of tags would take in front of them: the MACs have to be
/// written after them.
#[inline(always)]
fn write_tags<P: Packet>(packet: &mut P, len: usize, TagsEntry([first, last]): TagsEntry) -> Option<()> {
    const MOST: usize = size_of::<TagsEntry>();
    // LLVM leaves out checks that a stricter one implies, and the verifier does not see that this one does: it comes
    // before.
    let _: &[u8; MACS] = packet.view(0)?;
    let room: &mut [u8; MOST] = packet.view_mut(MACS - MOST + len)?;
    store64(room, 0, u64::from(first) | u64::from(last) << 32);
    Some(())
}

/// Writes both MACs.
#[inline(always)]
fn write_macs<P: Packet>(packet: &mut P, (head, tail): (u64, u32)) -> Option<()> {
    let macs: &mut [u8; MACS] = packet.view_mut(0)?;
    store64(macs, 0, head);
    store32(macs, 8, tail);
    Some(())
}

/// Writes MACs (laid out as in [`TargetEntry`]), tags of `len` bytes and the EtherType of the IP header behind them.
#[inline(always)]
pub(super) fn write_link<F: Family, P: Packet>(
    packet: &mut P,
    macs: (u64, u32),
    tags: TagsEntry,
    len: usize,
) -> Option<()> {
    write_tags(packet, len, tags)?;
    write_ether_type(packet, len, F::ETHER_TYPE)?;
    write_macs(packet, macs)
}
