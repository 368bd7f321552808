//! `fullnat`: the backend sees a flow come from an address and port of the balancer's own, so its answers come back here
//! whatever its routes say.
//!
//! Invariant: no two flows show one backend the same ends. The entry for the way back is inserted first, and only where
//! none is; whoever inserts it has the place, on whatever CPU.

use crate::abi::{Features, FlowEnds, Forward, NatEntry, Placement, Reason, Trace};

use super::{
    super::{Host, NatTables, ServiceTables},
    Scratch,
};

/// Whether the packet's flow is a new one, and its backend reached by `fullnat`.
#[inline(always)]
pub(super) fn needs_source<T: ServiceTables>(tables: &T, scratch: &Scratch) -> Result<Option<u16>, Reason> {
    let target = tables.target(scratch.outcome.target).ok_or(Reason::Unresolved)?;
    let is_known = scratch.outcome.placement == Placement::Translated.number();
    if target.forward != Forward::FullNat || is_known {
        return Ok(None);
    }
    Ok(Some(match target.backend_port {
        0 => scratch.destination_port(),
        port => port,
    }))
}

/// A new entry of the packet's flow, which tells `to`.
#[inline(always)]
pub(super) fn entry<T: Host>(tables: &T, scratch: &Scratch, to: FlowEnds) -> NatEntry {
    NatEntry {
        to,
        service: scratch.service.number(),
        owner: scratch.outcome.target.wrapping_sub(scratch.service.target_base),
        target: scratch.outcome.target,
        clock: tables.now(),
        state: NatEntry::OPEN,
        is_back: 0,
    }
}

/// Whether the packet is an answer to an address of the pool: then [`Scratch::to`] is as its client is to see it, and the
/// number of its service and the index of its target are returned.
#[inline(always)]
pub(super) fn answered<T: ServiceTables + NatTables + Host>(
    tables: &T,
    scratch: &mut Scratch,
) -> Option<(u32, u32)> {
    if !tables.features().intersects(Features::FULLNAT) {
        return None;
    }
    let leaves_traces = scratch.leaves_traces(tables.explains());
    let clock = tables.now();
    let key = scratch.ends();
    let known = tables.translation(&key, |known| {
        // Its service may be gone, and then this is a client's packet.
        if known.is_back == 0 {
            return (Trace::NONE, Trace::NONE);
        }
        if leaves_traces {
            known.touch(clock, scratch.outcome.tcp_flags as u8);
        }
        scratch.to = known.to;
        (known.service, known.target)
    });
    known.filter(|(service, _)| *service != Trace::NONE)
}
