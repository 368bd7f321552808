//! ICMP to a VIP: echo requests are answered on the spot, so that a VIP can be pinged without being the host's own.

use crate::{
    abi::Reason,
    net::{ETHERNET, checksum, load16, store16},
};

use super::{
    Packet,
    early::{DETOUR, LeaveEarly},
    family::Family,
    parse::Ip,
    rewrite,
};

/// Answers an echo request to a VIP. All else of ICMP takes the detour.
#[inline(always)]
pub(super) fn answer<F: Family, P: Packet>(
    packet: &mut P,
    ip: &Ip<F::Address>,
) -> Result<Reason, LeaveEarly> {
    // Options would have to be turned around too (RFC 1122 §3.2.2.6).
    let is_plain = ip.transport == ip.network + F::HEADER;
    if usize::from(ip.len) < F::HEADER + 8 || !is_plain {
        return Err(DETOUR);
    }
    let icmp: &[u8; 8] = packet.view(ip.network + F::HEADER).ok_or(Reason::Truncated)?;
    let (request, _) = F::ECHO;
    if icmp[0] != request || icmp[1] != 0 {
        return Err(DETOUR);
    }
    let sum = reply_sum::<F>(icmp);
    if sum == 0 {
        // Whether that is right only the whole message tells.
        return Err(DETOUR);
    }
    Ok(reply::<F, P>(packet, ip, sum)?)
}

/// The checksum of the reply to an echo request; 0 may stand for 0xffff, see [`checksum::adjusted`].
#[inline(always)]
pub(super) fn reply_sum<F: Family>(icmp: &[u8; 8]) -> u16 {
    let (request, reply) = F::ECHO;
    let word = |kind| u32::from(u16::from_ne_bytes([kind, 0]));
    // Type and code are one word of the sum; swapped addresses leave ICMPv6's pseudo header as it was.
    checksum::adjusted(load16(icmp, 2), checksum::delta(word(request), word(reply)))
}

/// Makes an echo request with a plain IP header its own reply with that checksum, if it is from one host to one (RFC 1122
/// §3.2.2.6, RFC 4443 §4.2).
#[inline(always)]
pub(super) fn reply<F: Family, P: Packet>(
    packet: &mut P,
    ip: &Ip<F::Address>,
    sum: u16,
) -> Result<Reason, Reason> {
    if !is_to_one_host(packet) || !F::is_one_host(ip.source) {
        return Err(Reason::NoService);
    }
    let icmp: &mut [u8; 8] = packet.view_mut(ip.network + F::HEADER).ok_or(Reason::Truncated)?;
    let (_, reply) = F::ECHO;
    icmp[0] = reply;
    store16(icmp, 2, sum);
    F::turn_around(packet, ip).ok_or(Reason::Truncated)?;
    rewrite::swap_macs(packet)?;
    Ok(Reason::EchoReply)
}

/// Whether the frame is to one host of the link rather than several.
#[inline(always)]
pub(super) fn is_to_one_host<P: Packet>(packet: &P) -> bool {
    const IS_GROUP: u8 = 1;
    packet
        .view::<ETHERNET>(0)
        .is_some_and(|ethernet| ethernet[0] & IS_GROUP == 0)
}
