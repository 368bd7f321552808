//! Translating a packet: other addresses and ports at both ends, in its headers and, for an ICMP error, in the packet
//! that it quotes (RFC 5508 §4.2).
//!
//! Invariant: a checksum that was right is right afterwards, and one that was wrong stays wrong: all are updated by what
//! changed (RFC 1624), none is made anew.

use crate::{
    abi::FlowEnds,
    net::{SCTP, TCP, checksum, load16, store16, store32},
};

use super::{
    super::{Packet, family::Family},
    PacketKind, Scratch,
    scratch::offset,
};

/// Where TCP's checksum stands in its header; UDP's stands within the 8 bytes that every error quotes.
const TCP_CHECKSUM: usize = 16;

/// Turns the packet's flow into `to`, if `is_hop` one hop further. `None` if a header is not there that was seen before.
#[inline(always)]
pub(super) fn translate<F: Family, P: Packet>(
    packet: &mut P,
    scratch: &Scratch,
    to: &FlowEnds,
    is_hop: bool,
) -> Option<()> {
    let from = scratch.ends();
    let at = offset(scratch.network);
    if is_hop {
        F::forwarded(packet, at, None)?;
    }
    if scratch.is(PacketKind::IcmpError) {
        return error::<F, P>(packet, scratch, &from, to);
    }
    let change = readdress::<F, P>(packet, at, &from, to)?;
    if scratch.is(PacketKind::LaterFragment) {
        return Some(());
    }
    let change = checksum::fold(change.addresses + checksum::delta(sum(from.ports), sum(to.ports)));
    // What was seen whole before is whole: its end is no concern.
    reconnect(
        packet,
        offset(scratch.transport),
        usize::MAX,
        scratch.protocol,
        to.ports,
        change,
    )?;
    Some(())
}

/// An ICMP error goes the way of its flow, and quotes a packet that came the other way.
#[inline(always)]
fn error<F: Family, P: Packet>(
    packet: &mut P,
    scratch: &Scratch,
    from: &FlowEnds,
    to: &FlowEnds,
) -> Option<()> {
    let end = offset(scratch.network) + scratch.len as usize;
    let (back, back_to) = (from.reversed(), to.reversed());
    let quoted = readdress::<F, P>(packet, offset(scratch.quote), &back, &back_to)?;
    let ports = checksum::delta(sum(back.ports), sum(back_to.ports));
    let transport = reconnect(
        packet,
        offset(scratch.quoted_transport),
        end,
        scratch.protocol,
        back_to.ports,
        checksum::fold(quoted.addresses + ports),
    )?;

    // Any router may have sent it. If the flow's source is hidden from the recipient, so is the router.
    let network = offset(scratch.network);
    let sender = F::parse(packet, network)?.source;
    let outer = FlowEnds {
        source: F::wide(sender),
        ..*from
    };
    let outer_to = FlowEnds {
        source: if from.source == to.source {
            outer.source
        } else {
            to.source
        },
        ..*to
    };
    let outer = readdress::<F, P>(packet, network, &outer, &outer_to)?;
    // ICMPv6's covers the addresses (RFC 4443 §2.3).
    let pseudo = if F::V6 { outer.addresses } else { 0 };
    let icmp: &mut [u8; 8] = packet.view_mut(offset(scratch.transport))?;
    let sum = checksum::adjusted(load16(icmp, 2), quoted.header + ports + transport + pseudo);
    store16(icmp, 2, sum);
    Some(())
}

/// What new addresses add to sums.
struct Readdressed {
    /// To what covers the addresses.
    addresses: u32,
    /// To what covers the IP header.
    header: u32,
}

/// Writes both addresses of the IP header at `at`.
#[inline(always)]
fn readdress<F: Family, P: Packet>(
    packet: &mut P,
    at: usize,
    from: &FlowEnds,
    to: &FlowEnds,
) -> Option<Readdressed> {
    let addresses = checksum::delta(
        wide_sum(from.source) + wide_sum(from.destination),
        wide_sum(to.source) + wide_sum(to.destination),
    );
    let (source, destination) = (F::narrow(to.source), F::narrow(to.destination));
    let header = F::readdress(packet, at, source, destination, addresses)?;
    Some(Readdressed { addresses, header })
}

/// Writes the ports of the transport header at `at`, whose checksum changes by `change`, if it is there before `end`.
/// What the checksum's own change adds to sums that cover it.
///
/// SCTP's is no such sum and covers no addresses (RFC 9260 §6.8); its ports stay as they are.
#[inline(always)]
fn reconnect<P: Packet>(
    packet: &mut P,
    at: usize,
    end: usize,
    protocol: u32,
    ports: u32,
    change: u32,
) -> Option<u32> {
    let header: &mut [u8; 8] = packet.view_mut(at)?;
    if protocol == u32::from(SCTP) {
        return Some(0);
    }
    store32(header, 0, ports);
    if protocol != u32::from(TCP) {
        let old = load16(header, 6);
        let new = checksum::adjusted_udp(old, change);
        store16(header, 6, new);
        return Some(checksum::delta(u32::from(old), u32::from(new)));
    }
    if at + TCP_CHECKSUM + 2 > end {
        return Some(0);
    }
    let field: &mut [u8; 2] = packet.view_mut(at + TCP_CHECKSUM)?;
    let old = load16(field, 0);
    let new = checksum::adjusted(old, change);
    store16(field, 0, new);
    Some(checksum::delta(u32::from(old), u32::from(new)))
}

/// The sum of two ports.
#[inline(always)]
const fn sum(ports: u32) -> u32 {
    checksum::halves(ports)
}

/// The sum of a wide address.
#[inline(always)]
const fn wide_sum([a, b]: [u64; 2]) -> u32 {
    checksum::halves(a as u32)
        + checksum::halves((a >> 32) as u32)
        + checksum::halves(b as u32)
        + checksum::halves((b >> 32) as u32)
}
