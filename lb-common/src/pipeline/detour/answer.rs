//! Packets that go no further, and whose sender is told so: too big, no hop left, nobody there.
//!
//! Invariant: nobody answers a packet that is an answer itself, and the balancer makes so many answers a second and no
//! more.

use crate::{
    abi::Reason,
    net::{TCP, tcp},
};

use super::{
    super::{
        Host, Packet,
        echo::is_to_one_host,
        family::{Family, V4, V6},
    },
    PacketKind, Scratch, StepResult,
    error::{IcmpError, send_error},
    own::ReplyFamily,
    reset::reset,
};

/// Answers the packet as [`Scratch::answer`] says, or drops it.
#[inline(always)]
pub(super) fn answer<P: Packet, T: Host>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> StepResult {
    let Some(reason) = Reason::from_number(scratch.answer) else {
        return Err(Reason::NoBackend);
    };
    if !is_answerable(packet, scratch, reason) || !tables.may_answer(reason) {
        return Err(reason.untold().unwrap_or(Reason::NoBackend));
    }
    // Answers go back to where the packet came from.
    scratch.outcome.egress = 0;
    if scratch.v6 == 0 {
        within::<V4, P, T>(packet, tables, scratch, reason)?;
    } else {
        within::<V6, P, T>(packet, tables, scratch, reason)?;
    }
    Err(reason)
}

/// RFC 1122 §3.2.2, RFC 4443 §2.4 (e): not an ICMP error, not a later fragment, and not what came from or to more than
/// one host. RFC 9293 §3.10.7.1: no TCP reset is answered by another.
#[inline(always)]
fn is_answerable<P: Packet>(packet: &P, scratch: &Scratch, reason: Reason) -> bool {
    let is_to_one = is_to_one_host(packet);
    let is_from_one = if scratch.v6 == 0 {
        V4::is_one_host(V4::narrow(scratch.source))
    } else {
        V6::is_one_host(scratch.source)
    };
    let is_rejected_tcp = reason.is_refusal() && scratch.protocol == u32::from(TCP);
    let is_whole = scratch.is(PacketKind::Whole);
    let is_kind = if is_rejected_tcp {
        is_whole && !tcp::resets(scratch.outcome.tcp_flags as u8)
    } else {
        is_whole || scratch.is(PacketKind::FirstFragment)
    };
    is_to_one && is_from_one && is_kind
}

#[inline(always)]
fn within<F: ReplyFamily, P: Packet, T: Host>(
    packet: &mut P,
    tables: &T,
    scratch: &Scratch,
    reason: Reason,
) -> Result<(), Reason> {
    let error = match reason {
        Reason::TooBigAnswered => IcmpError::too_big::<F>(scratch.max_len as u16),
        Reason::TtlAnswered => IcmpError::no_hop_left::<F>(),
        _ if scratch.protocol == u32::from(TCP) => return reset::<F, P>(packet, scratch),
        _ => IcmpError::nobody_there::<F>(),
    };
    send_error::<F, P>(
        packet,
        scratch,
        F::narrow(speaker::<F, T>(tables, scratch, reason)),
        &error,
    )
}

/// The address that an ICMP error is from, wide.
///
/// As the hop that the balancer is (RFC 1812 §4.3.2.4) for traceroute to show it, and toward backends, to whom a client
/// says no such thing. Otherwise as the VIP: networks on the way to a client may drop what comes from private addresses
/// (RFC 2827), and an answer about the path's MTU must not get lost.
#[inline(always)]
fn speaker<F: ReplyFamily, T: Host>(tables: &T, scratch: &Scratch, reason: Reason) -> [u64; 2] {
    let own = if reason == Reason::TtlAnswered || scratch.is_back != 0 {
        let upper = tables.upper(tables.ingress());
        upper.and_then(|upper| upper.own_address(F::V6))
    } else {
        None
    };
    own.unwrap_or(scratch.destination)
}
