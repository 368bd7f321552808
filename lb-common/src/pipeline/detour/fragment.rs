//! Fragments: the first one shows the ports, later ones follow it.
//!
//! Invariant: no byte of a packet goes out twice, as far as its fragments are told apart (RFC 5722): the fragment that
//! comes first wins.

use crate::{
    abi::{FragmentEntry, FragmentKey, Placement, Reason},
    net::TCP,
};

use super::{
    super::{FlowTables, Host},
    PacketKind, Scratch, StepResult,
};

/// A header that no later fragment of TCP may begin within: the second 8 bytes hold the flags (RFC 1858 §4.2).
const TCP_FLAGS: u32 = 8;

/// Notes the ports of a first fragment, and takes those of a later one from there.
///
/// A later one asks before it is known whom it is for; a first one when it has turned out to be for a VIP or from a
/// backend, so that nobody else's fragments fill the table.
#[inline(always)]
pub(super) fn fragment<T: FlowTables + Host>(tables: &T, scratch: &mut Scratch) -> StepResult {
    let is_later = scratch.is(PacketKind::LaterFragment);
    let key = FragmentKey {
        source: scratch.source,
        destination: scratch.destination,
        id: scratch.fragment_id,
        protocol: if scratch.v6 == 0 { scratch.protocol } else { 0 },
    };
    let clock = tables.now();
    let mut record = FragmentEntry::new(scratch.ports, scratch.protocol, clock);
    let is_known = tables.fragments(&key, &mut record) && record.is_current(clock);
    if !is_known {
        record = FragmentEntry::new(scratch.ports, scratch.protocol, clock);
    }
    if is_later && record.protocol == u32::from(TCP) && scratch.fragment_start() <= TCP_FLAGS {
        scratch.kind = PacketKind::NoPorts;
        scratch.set_oddity(Reason::BadFragment);
        return Ok(());
    }
    if is_later && !is_known {
        return Ok(());
    }
    let is_last = !scratch.has_more_fragments();
    let is_new = record.add(scratch.fragment_start(), scratch.fragment_end, is_last);
    if is_later {
        scratch.ports = record.ports;
        scratch.protocol = record.protocol;
        scratch.outcome.placement = Placement::Fragment.number();
    }
    if !is_new {
        // Whether that is the balancer's business depends on whom the packet is for.
        scratch.set_oddity(Reason::BadFragment);
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
