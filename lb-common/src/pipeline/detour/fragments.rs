//! Fragments: the first one shows the ports, later ones follow it.
//!
//! Invariant: no byte of a packet goes out twice, as far as its fragments are told apart (RFC 5722): the fragment that
//! comes first wins.

use crate::abi::{FragmentKey, FragmentRecord, Placement, Reason};

use super::{super::Tables, Kind, Seen, Step};

/// Notes the ports of a first fragment, and takes those of a later one from there.
#[inline(always)]
pub(super) fn follow<T: Tables>(tables: &T, seen: &mut Seen) -> Step {
    let is_later = seen.is(Kind::LaterFragment);
    let key = FragmentKey {
        source: seen.source,
        destination: seen.destination,
        id: seen.fragment_id,
        protocol: if seen.v6 == 0 { seen.protocol } else { 0 },
    };
    let clock = tables.now();
    let mut record = FragmentRecord::new(seen.ports, seen.protocol, clock);
    let is_known = tables.fragments(&key, &mut record) && record.is_current(clock);
    if !is_known {
        if is_later {
            return Ok(());
        }
        record = FragmentRecord::new(seen.ports, seen.protocol, clock);
    }
    let is_last = !seen.has_more_fragments();
    if !record.add(seen.fragment_start(), seen.fragment_end, is_last) {
        // Whether that is the balancer's business depends on whom the packet is for.
        seen.set_oddity(Reason::BadFragment);
    }
    if is_later {
        seen.ports = record.ports;
        seen.protocol = record.protocol;
        seen.outcome.placement = Placement::Fragment as u16;
    }
    if seen.oddity != 0 || tables.explains() {
        return Ok(());
    }
    if record.is_complete() {
        tables.forget_fragments(&key);
    } else {
        tables.note_fragments(&key, &record);
    }
    Ok(())
}
