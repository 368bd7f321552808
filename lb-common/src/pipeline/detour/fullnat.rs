//! `fullnat`: the backend sees a flow come from an address and port of the balancer's own, so its answers come back here
//! whatever its routes say.
//!
//! Invariant: no two flows show one backend the same ends. The entry for the way back is inserted first, and only where
//! none is; whoever inserts it has the place, on whatever CPU.

use crate::{
    abi::{Ends, Features, Forward, Placement, Reason, SourcePool, Target, Translation},
    hash,
};

use super::{super::Tables, Kind, Seen, Step};

/// What became of an entry to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is there.
    Made,
    /// Another is there by that key.
    Taken,
    /// There is no room.
    Full,
}

/// Has a packet of a known flow go where its flow goes, as what: [`Seen::to`].
#[inline(always)]
pub(super) fn recall<T: Tables>(tables: &T, seen: &mut Seen) -> Step {
    if !tables.features().has(Features::FULLNAT) {
        return Ok(());
    }
    let key = seen.ends();
    let leaves_traces = seen.leaves_traces(tables.explains());
    let Some(known) = tables.translation(&key, touched_by(seen, leaves_traces)) else {
        return Ok(());
    };
    let index = seen.service.target_base.wrapping_add(known.owner);
    // Its backend may be gone, and another be there in its place.
    let is_current = known.service == seen.service.number()
        && tables
            .target(index)
            .is_some_and(|target| is_to(target, &known.to));
    if !is_current {
        if leaves_traces {
            tables.forget_translation(&key);
            tables.forget_translation(&known.to.reversed());
        }
        return Ok(());
    }
    if known.target != index && leaves_traces {
        // Its service's targets lie elsewhere now.
        let there = Translation {
            target: index,
            ..known
        };
        tables.renew_translation(&key, &there);
        let back = Translation {
            to: key.reversed(),
            is_back: 1,
            ..there
        };
        tables.renew_translation(&known.to.reversed(), &back);
    }
    seen.to = known.to;
    seen.outcome.target = index;
    seen.outcome.placement = Placement::Translated as u16;
    Ok(())
}

/// Whether the target is the backend that packets with those ends go to.
#[inline(always)]
fn is_to(target: &Target, to: &Ends) -> bool {
    let port = (to.ports >> 16) as u16;
    target.forward == Forward::FullNat as u8
        && target.addresses[Target::BACKEND] == to.destination
        && (target.backend_port == 0 || target.backend_port == port)
}

/// Gives a new flow an address and port of its own, if its backend is reached so: [`Seen::to`].
#[inline(always)]
pub(super) fn assign<T: Tables>(tables: &T, seen: &mut Seen) -> Step {
    let target = tables.target(seen.outcome.target).ok_or(Reason::Unresolved)?;
    let is_known = seen.outcome.placement == Placement::Translated as u16;
    if target.forward != Forward::FullNat as u8 || is_known {
        return Ok(());
    }
    if seen.is(Kind::IcmpError) {
        // About no flow of ours.
        return Err(Reason::NoService);
    }
    let pool = tables.source_pool(seen.v6 != 0);
    let hash = hash::mix_wide(seen.source, seen.ports, tables.seed());
    let port = match target.backend_port {
        0 => seen.destination_port(),
        port => port,
    };
    seen.to.destination = target.addresses[Target::BACKEND];
    seen.to.protocol = seen.protocol;
    for nth in 0..SourcePool::TRIES {
        let Some((address, source_port)) = pool.place(hash, nth) else {
            break;
        };
        let Some(source) = tables.nat_source(address) else {
            break;
        };
        seen.to.source = source;
        seen.to.ports = Ends::ports(source_port, port);
        if tables.explains() {
            if tables.translation(&seen.to.reversed(), None).is_some() {
                continue;
            }
            return Ok(());
        }
        let back = Translation {
            state: Translation::OPEN,
            is_back: 1,
            ..entry(tables, seen, seen.ends().reversed())
        };
        match tables.claim(&seen.to.reversed(), &back) {
            Claim::Made => return settle(tables, seen),
            Claim::Taken => {}
            Claim::Full => break,
        }
    }
    Err(Reason::NoSourcePort)
}

/// The place is the flow's, unless another packet of it has just found another one.
#[inline(always)]
fn settle<T: Tables>(tables: &T, seen: &mut Seen) -> Step {
    let key = seen.ends();
    let claim = tables.claim(&key, &entry(tables, seen, seen.to));
    if claim == Claim::Made {
        return Ok(());
    }
    tables.forget_translation(&seen.to.reversed());
    let first = tables.translation(&key, None).ok_or(Reason::NoSourcePort)?;
    seen.to = first.to;
    seen.outcome.target = first.target;
    Ok(())
}

/// A new entry of the packet's flow, which tells `to`.
#[inline(always)]
fn entry<T: Tables>(tables: &T, seen: &Seen, to: Ends) -> Translation {
    let mut entry = Translation {
        to,
        service: seen.service.number(),
        owner: seen.outcome.target.wrapping_sub(seen.service.target_base),
        target: seen.outcome.target,
        clock: tables.now(),
        state: Translation::OPEN,
        is_back: 0,
    };
    entry.touch(entry.clock, seen.outcome.tcp_flags as u8);
    entry
}

/// The flow that a packet to an address of the pool is an answer in, as what its client is to see it; and the backend.
#[inline(always)]
pub(super) fn answered<T: Tables>(tables: &T, seen: &Seen) -> Option<Translation> {
    if !tables.features().has(Features::FULLNAT) {
        return None;
    }
    tables.translation(
        &seen.ends(),
        touched_by(seen, seen.leaves_traces(tables.explains())),
    )
}

/// TCP's flags, if the packet is to be remembered.
#[inline(always)]
fn touched_by(seen: &Seen, leaves_traces: bool) -> Option<u8> {
    leaves_traces.then_some(seen.outcome.tcp_flags as u8)
}
