//! ICMP errors of the balancer's own making.

use crate::{
    abi::Reason,
    net::{ICMP_HEADER, MACS, checksum, load64, store16, store32, store64},
};

use super::{
    super::Packet,
    Scratch, StepResult,
    own::{OwnHeader, ReplyFamily},
    scratch::offset,
};

/// Length of an answer over IPv4, at most: what every host takes (RFC 1812 §4.3.2.3).
const MAX_ANSWER4: usize = 576;
/// Length of an answer over IPv6, at most: what every link carries (RFC 4443 §2.4 (c)).
const MAX_ANSWER6: usize = 1280;
/// The header was there before; the verifier wants it checked all the same.
const SEEN_BEFORE: Reason = Reason::Truncated;

/// An ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IcmpError {
    kind: u8,
    code: u8,
    /// What follows the checksum.
    word: u32,
}

impl IcmpError {
    /// No packet longer than `max_len` goes further: fragmentation needed (RFC 1191 §4), packet too big (RFC 4443
    /// §3.2). Also where IPv4 would allow fragments: nothing here makes any.
    #[inline(always)]
    pub(super) const fn too_big<F: ReplyFamily>(max_len: u16) -> Self {
        let (kind, code) = if F::V6 { (2, 0) } else { (3, 4) };
        let word = max_len as u32;
        Self { kind, code, word }
    }

    /// Time exceeded in transit.
    #[inline(always)]
    pub(super) const fn no_hop_left<F: ReplyFamily>() -> Self {
        let kind = if F::V6 { 3 } else { 11 };
        let (code, word) = (0, 0);
        Self { kind, code, word }
    }

    /// Port unreachable.
    #[inline(always)]
    pub(super) const fn nobody_there<F: ReplyFamily>() -> Self {
        let (kind, code) = if F::V6 { (1, 4) } else { (3, 3) };
        Self { kind, code, word: 0 }
    }
}

/// Turns the packet into an ICMP error about it, with as much of it as may be quoted, from `source` to its source.
///
/// # Errors
/// Why it cannot be done; the packet is as it came then.
#[inline(always)]
pub(super) fn send_error<F: ReplyFamily, P: Packet>(
    packet: &mut P,
    scratch: &Scratch,
    source: F::Address,
    error: &IcmpError,
) -> StepResult {
    let max_answer = if F::V6 { MAX_ANSWER6 } else { MAX_ANSWER4 };
    let headers = F::HEADER + ICMP_HEADER;
    let quoted = (scratch.len as usize).min(max_answer - headers);
    let at = offset(scratch.network);
    if !packet.grow(headers as i32) {
        return Err(Reason::NoHeadroom);
    }
    if !packet.trim(at + headers + quoted) {
        packet.grow(-(headers as i32));
        return Err(Reason::NoHeadroom);
    }
    turn_link_around(packet, headers, scratch.tags).ok_or(SEEN_BEFORE)?;
    let own = OwnHeader {
        source,
        destination: F::narrow(scratch.source),
        protocol: F::ICMP,
        len: (ICMP_HEADER + quoted) as u16,
    };
    F::write_own(packet, at, &own).ok_or(SEEN_BEFORE)?;
    write_icmp::<F, P>(packet, at + F::HEADER, &own, error).ok_or(SEEN_BEFORE)
}

/// Brings what stands in front of the IP header from `from` to the frame's start, and sends it back.
#[inline(always)]
fn turn_link_around<P: Packet>(packet: &mut P, from: usize, tags: u32) -> Option<()> {
    let macs: &[u8; MACS + 2] = packet.view(from)?;
    let (destination, source) = (load64(macs, 0), load64(macs, 6));
    let new: &mut [u8; MACS + 2] = packet.view_mut(0)?;
    // Two bytes more than a MAC each, in this order.
    store64(new, 0, source);
    store64(new, 6, destination);
    // Tags, and the EtherType behind them.
    for place in 0..=2 {
        let at = MACS + 4 * place;
        if place < tags as usize {
            bring::<4, P>(packet, from, at)?;
        } else if place == tags as usize {
            bring::<2, P>(packet, from, at)?;
        }
    }
    Some(())
}

/// Copies `N` bytes to `at` from as far behind it as `from`.
#[inline(always)]
fn bring<const N: usize, P: Packet>(packet: &mut P, from: usize, at: usize) -> Option<()> {
    let old: &[u8; N] = packet.view(from + at)?;
    let bytes = *old;
    let new: &mut [u8; N] = packet.view_mut(at)?;
    *new = bytes;
    Some(())
}

#[inline(always)]
fn write_icmp<F: ReplyFamily, P: Packet>(
    packet: &mut P,
    at: usize,
    own: &OwnHeader<F::Address>,
    error: &IcmpError,
) -> Option<()> {
    let icmp: &mut [u8; ICMP_HEADER] = packet.view_mut(at)?;
    store32(
        icmp,
        0,
        u32::from(error.kind) | (u32::from(error.code) << 8).to_le(),
    );
    store32(icmp, 4, error.word.to_be());
    let pseudo = if F::V6 { F::pseudo_sum(own) } else { 0 };
    let sum = checksum::of(pseudo + packet.sum(at, usize::from(own.len))?);
    let icmp: &mut [u8; ICMP_HEADER] = packet.view_mut(at)?;
    store16(icmp, 2, sum);
    Some(())
}
