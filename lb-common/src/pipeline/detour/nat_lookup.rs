//! Which backend a known `fullnat` flow has.

use crate::abi::{Features, FlowEnds, Forward, Placement, TargetEntry, Trace};

use super::{
    super::{Host, NatTables, ServiceTables},
    Scratch, StepResult,
};

/// Has a packet of a known flow go where its flow goes, as what: [`Scratch::to`].
#[inline(always)]
pub(super) fn nat_lookup<T: ServiceTables + NatTables + Host>(
    tables: &T,
    scratch: &mut Scratch,
) -> StepResult {
    if !tables.features().intersects(Features::FULLNAT) {
        return Ok(());
    }
    let key = scratch.ends();
    let leaves_traces = scratch.leaves_traces(tables.explains());
    let clock = tables.now();
    let named = scratch.outcome.target;
    let known = tables.translation(&key, |known| {
        let index = scratch.service.target_base.wrapping_add(known.owner);
        scratch.to = known.to;
        // Its backend may be gone, and another be there in its place. A connection ID may name another one: one client
        // port can have several connections.
        let target = tables.target(index).filter(|target| is_to(target, &known.to));
        let is_elsewhere = named != Trace::NONE && named != index;
        let is_other = known.service != scratch.service.number() || target.is_none() || is_elsewhere;
        if is_other || known.is_followed_by(scratch.outcome.tcp_flags as u8) {
            return (Trace::NONE, false);
        }
        let has_moved = leaves_traces && known.target != index;
        if leaves_traces {
            known.touch(clock, scratch.outcome.tcp_flags as u8);
            known.target = index;
        }
        (index, has_moved)
    });
    match known {
        None => {}
        Some((Trace::NONE, _)) if !leaves_traces => {}
        Some((Trace::NONE, _)) => {
            tables.forget_translation(&key);
            tables.forget_translation(&scratch.to.reversed());
        }
        Some((index, has_moved)) => {
            if has_moved {
                // Its service's targets lie elsewhere now.
                tables.translation(&scratch.to.reversed(), |back| back.target = index);
            }
            scratch.outcome.target = index;
            scratch.outcome.placement = Placement::Translated.number();
        }
    }
    Ok(())
}

/// Whether the target is the backend that packets with those ends go to.
#[inline(always)]
fn is_to(target: &TargetEntry, to: &FlowEnds) -> bool {
    let port = (to.ports >> 16) as u16;
    target.forward == Forward::FullNat
        && target.addresses[TargetEntry::BACKEND] == to.destination
        && (target.backend_port == 0 || target.backend_port == port)
}
