//! Fragments: the first one shows the ports, later ones follow it.
//!
//! Invariant: no byte of a packet goes out twice, as far as its fragments are told apart (RFC 5722): the fragment that
//! comes first wins.

use crate::{
    abi::{FragmentEntry, FragmentKey, Placement, Reason},
    net::TCP,
};

use super::{super::Tables, PacketKind, Scratch, StepResult};

/// A header that no later fragment of TCP may begin within: the second 8 bytes hold the flags (RFC 1858 §4.2).
const TCP_FLAGS: u32 = 8;

/// Notes the ports of a first fragment, and takes those of a later one from there.
///
/// A later one asks before it is known whom it is for; a first one when it has turned out to be for a VIP or from a
/// backend, so that nobody else's fragments fill the table.
#[inline(always)]
pub(super) fn fragment<T: Tables>(tables: &T, seen: &mut Scratch) -> StepResult {
    let is_later = seen.is(PacketKind::LaterFragment);
    let key = FragmentKey {
        source: seen.source,
        destination: seen.destination,
        id: seen.fragment_id,
        protocol: if seen.v6 == 0 { seen.protocol } else { 0 },
    };
    let clock = tables.now();
    let mut record = FragmentEntry::new(seen.ports, seen.protocol, clock);
    let is_known = tables.fragments(&key, &mut record) && record.is_current(clock);
    if !is_known {
        record = FragmentEntry::new(seen.ports, seen.protocol, clock);
    }
    if is_later && record.protocol == u32::from(TCP) && seen.fragment_start() <= TCP_FLAGS {
        seen.kind = PacketKind::NoPorts as u32;
        seen.set_oddity(Reason::BadFragment);
        return Ok(());
    }
    if is_later && !is_known {
        return Ok(());
    }
    let is_last = !seen.has_more_fragments();
    let is_new = record.add(seen.fragment_start(), seen.fragment_end, is_last);
    if is_later {
        seen.ports = record.ports;
        seen.protocol = record.protocol;
        seen.outcome.placement = Placement::Fragment as u16;
    }
    if !is_new {
        // Whether that is the balancer's business depends on whom the packet is for.
        seen.set_oddity(Reason::BadFragment);
    }
    if !is_new || tables.explains() {
        return Ok(());
    }
    if record.is_complete() {
        tables.forget_fragments(&key);
    } else {
        tables.note_fragments(&key, &record);
    }
    Ok(())
}
