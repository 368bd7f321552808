//! The largest segment that a connection's ends tell one another (MSS): made smaller where the way asks for it.

use crate::{
    abi::Reason,
    net::{TCP_HEADER, checksum, load16, store16},
};

use super::{
    super::{Packet, ServiceTables},
    PacketKind, Scratch, StepResult,
    scratch::{offset, within_headers},
};

/// Options of one byte each, at most; the longest header is 60 bytes.
const MAX_OPTIONS: usize = 40;
/// Kinds of options (RFC 9293 §3.1).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
/// Length of the MSS option.
const MSS_LEN: u8 = 4;

/// Makes the MSS of a SYN no larger than the service says. It never makes one larger, and adds none.
#[inline(always)]
pub(super) fn clamp<P: Packet, T: ServiceTables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
) -> StepResult {
    if !scratch.is(PacketKind::Whole) {
        return Ok(());
    }
    let limit = tables
        .options(scratch.outcome.service_number())
        .map_or(0, |options| {
            if scratch.v6 == 0 {
                options.mss4
            } else {
                options.mss6
            }
        });
    if limit == 0 {
        return Ok(());
    }
    let transport = offset(scratch.transport);
    if let Some(at) = find_mss(packet, transport) {
        lower(packet, transport, at, limit).ok_or(Reason::Truncated)?;
    }
    Ok(())
}

/// Where the value of the MSS option stands in the frame. Options that contradict themselves end the search: the
/// backend judges them.
#[inline(always)]
fn find_mss<P: Packet>(packet: &P, transport: usize) -> Option<usize> {
    let header: &[u8; TCP_HEADER] = packet.view(transport)?;
    let end = transport + usize::from(header[12] >> 4) * 4;
    let mut at = transport + TCP_HEADER;
    for _ in 0..MAX_OPTIONS {
        at = within_headers(at);
        if at >= end {
            return None;
        }
        // With the byte before it, and the length with the kind: the verifier takes a view of one byte for none.
        let [_, kind] = *packet.view::<2>(within_headers(at - 1))?;
        match kind {
            END => return None,
            NO_OPERATION => at += 1,
            kind => {
                let [_, len] = *packet.view::<2>(at)?;
                let after = at + usize::from(len);
                if len < 2 || after > end {
                    return None;
                }
                if kind == MSS {
                    return (len == MSS_LEN).then_some(at + 2);
                }
                at = after;
            }
        }
    }
    None
}

/// Makes the value at `at` no larger than `limit`, and the checksum right.
#[inline(always)]
fn lower<P: Packet>(packet: &mut P, transport: usize, at: usize, limit: u16) -> Option<()> {
    let value: &mut [u8; 2] = packet.view_mut(at)?;
    let old = load16(value, 0);
    if u16::from_be(old) <= limit {
        return Some(());
    }
    let new = limit.to_be();
    store16(value, 0, new);
    // An option may begin at an odd place: then its bytes stand the other way round in the words that are summed.
    let is_odd = !(at - transport).is_multiple_of(2);
    let word = |value: u16| u32::from(if is_odd { value.swap_bytes() } else { value });
    let header: &mut [u8; TCP_HEADER] = packet.view_mut(transport)?;
    let sum = checksum::adjusted(load16(header, 16), checksum::delta(word(old), word(new)));
    store16(header, 16, sum);
    Some(())
}
