//! `fullnat`: the backend sees a flow come from an address and port of the balancer's own, so its answers come back here
//! whatever its routes say.
//!
//! Invariant: no two flows show one backend the same ends. The entry for the way back is inserted first, and only where
//! none is; whoever inserts it has the place, on whatever CPU.

use crate::{
    abi::{Features, FlowEnds, Forward, NatEntry, Placement, Reason, SnatPoolEntry, TargetEntry, Trace},
    hash,
    net::load64,
};

use super::{
    super::{Packet, Tables},
    PacketKind, Scratch, StepResult,
    seen::offset,
};

/// What became of an entry to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// It is there.
    Made,
    /// Another is there by that key.
    Taken,
    /// There is no room.
    Full,
}

/// Has a packet of a known flow go where its flow goes, as what: [`Scratch::to`].
#[inline(always)]
pub(super) fn recall<T: Tables>(tables: &T, seen: &mut Scratch) -> StepResult {
    if !tables.features().has(Features::FULLNAT) {
        return Ok(());
    }
    let key = seen.ends();
    let leaves_traces = seen.leaves_traces(tables.explains());
    let clock = tables.now();
    let named = seen.outcome.target;
    let known = tables.translation(&key, |known| {
        let index = seen.service.target_base.wrapping_add(known.owner);
        seen.to = known.to;
        // Its backend may be gone, and another be there in its place. A connection ID may name another one: one client
        // port can have several connections.
        let target = tables.target(index).filter(|target| is_to(target, &known.to));
        let is_elsewhere = named != Trace::NONE && named != index;
        let is_other = known.service != seen.service.number() || target.is_none() || is_elsewhere;
        if is_other || known.is_followed_by(seen.outcome.tcp_flags as u8) {
            return (Trace::NONE, false);
        }
        let has_moved = leaves_traces && known.target != index;
        if leaves_traces {
            known.touch(clock, seen.outcome.tcp_flags as u8);
            known.target = index;
        }
        (index, has_moved)
    });
    match known {
        None => {}
        Some((Trace::NONE, _)) if !leaves_traces => {}
        Some((Trace::NONE, _)) => {
            tables.forget_translation(&key);
            tables.forget_translation(&seen.to.reversed());
        }
        Some((index, has_moved)) => {
            if has_moved {
                // Its service's targets lie elsewhere now.
                tables.translation(&seen.to.reversed(), |back| back.target = index);
            }
            seen.outcome.target = index;
            seen.outcome.placement = Placement::Translated as u16;
        }
    }
    Ok(())
}

/// Whether the target is the backend that packets with those ends go to.
#[inline(always)]
fn is_to(target: &TargetEntry, to: &FlowEnds) -> bool {
    let port = (to.ports >> 16) as u16;
    target.forward == Forward::FullNat as u8
        && target.addresses[TargetEntry::BACKEND] == to.destination
        && (target.backend_port == 0 || target.backend_port == port)
}

/// Whether the packet's flow is a new one, and its backend reached by `fullnat`.
#[inline(always)]
fn needs_place<T: Tables>(tables: &T, seen: &Scratch) -> Result<Option<u16>, Reason> {
    let target = tables.target(seen.outcome.target).ok_or(Reason::Unresolved)?;
    let is_known = seen.outcome.placement == Placement::Translated as u16;
    if target.forward != Forward::FullNat as u8 || is_known {
        return Ok(None);
    }
    Ok(Some(match target.backend_port {
        0 => seen.destination_port(),
        port => port,
    }))
}

/// Gives a new flow an address and port of its own, if its backend is reached so: [`Scratch::to`].
///
/// A first packet that is sent again tries other places: its IP header differs in the identification, or the flow label.
#[inline(always)]
pub(super) fn assign<P: Packet, T: Tables>(packet: &P, tables: &T, seen: &mut Scratch) -> StepResult {
    let Some(port) = needs_place(tables, seen)? else {
        return Ok(());
    };
    if seen.is(PacketKind::IcmpError) {
        // About no flow of ours.
        return Err(seen.for_no_service());
    }
    let target = tables.target(seen.outcome.target).ok_or(Reason::Unresolved)?;
    seen.to.destination = target.addresses[TargetEntry::BACKEND];
    seen.to.protocol = seen.protocol;
    let pool = tables.source_pool(seen.v6 != 0);
    let seed = tables.seed();
    let client = hash::mix_wide(seen.source, 0, seed);
    let header: &[u8; 8] = packet.view(offset(seen.network)).ok_or(Reason::Truncated)?;
    let flow = hash::mix(hash::mix_wide(seen.source, seen.ports, seed), load64(header, 0));
    let back = NatEntry {
        is_back: 1,
        ..entry(tables, seen, seen.ends().reversed())
    };
    for nth in 0..SnatPoolEntry::TRIES {
        let Some((address, source_port)) = pool.place(client, flow, nth) else {
            break;
        };
        seen.to.source = tables.nat_source(address).ok_or(Reason::NoSourcePort)?;
        seen.to.ports = FlowEnds::ports(source_port, port);
        match claim(tables, &seen.to.reversed(), &back) {
            InsertOutcome::Made => return Ok(()),
            InsertOutcome::Taken => {}
            InsertOutcome::Full => return Err(Reason::NoSourcePortAnswered),
        }
    }
    Err(if pool.is_exhausted() {
        Reason::NoSourcePortAnswered
    } else {
        Reason::NoSourcePort
    })
}

/// Inserts an entry, or tells what would become of it.
#[inline(always)]
fn claim<T: Tables>(tables: &T, key: &FlowEnds, entry: &NatEntry) -> InsertOutcome {
    if !tables.explains() {
        return tables.claim(key, entry);
    }
    // A place of the same client's flow that has ended would have been given up.
    match tables.translation(key, |known| known.to == entry.to) {
        Some(false) => InsertOutcome::Taken,
        Some(true) | None => InsertOutcome::Made,
    }
}

/// Makes the place that [`assign`] found the flow's, unless another packet of the flow has just found another one.
#[inline(always)]
pub(super) fn settle<T: Tables>(tables: &T, seen: &mut Scratch) -> StepResult {
    if needs_place(tables, seen)?.is_none() || tables.explains() {
        return Ok(());
    }
    let key = seen.ends();
    let mut there = entry(tables, seen, seen.to);
    there.begin(seen.outcome.tcp_flags as u8);
    if tables.claim(&key, &there) == InsertOutcome::Made {
        return Ok(());
    }
    tables.forget_translation(&seen.to.reversed());
    let first = tables.translation(&key, |first| {
        seen.to = first.to;
        first.target
    });
    seen.outcome.target = first.ok_or(Reason::NoSourcePort)?;
    let target = tables.target(seen.outcome.target).ok_or(Reason::Unresolved)?;
    seen.outcome.egress = 0;
    seen.outcome.leave_by(target.egress, tables.ingress());
    Ok(())
}

/// A new entry of the packet's flow, which tells `to`.
#[inline(always)]
fn entry<T: Tables>(tables: &T, seen: &Scratch, to: FlowEnds) -> NatEntry {
    NatEntry {
        to,
        service: seen.service.number(),
        owner: seen.outcome.target.wrapping_sub(seen.service.target_base),
        target: seen.outcome.target,
        clock: tables.now(),
        state: NatEntry::OPEN,
        is_back: 0,
    }
}

/// Whether the packet is an answer to an address of the pool: then [`Scratch::to`] is as its client is to see it, and the
/// number of its service and the index of its target are returned.
#[inline(always)]
pub(super) fn answered<T: Tables>(tables: &T, seen: &mut Scratch) -> Option<(u32, u32)> {
    if !tables.features().has(Features::FULLNAT) {
        return None;
    }
    let leaves_traces = seen.leaves_traces(tables.explains());
    let clock = tables.now();
    let key = seen.ends();
    let known = tables.translation(&key, |known| {
        // Its service may be gone, and then this is a client's packet.
        if known.is_back == 0 {
            return (Trace::NONE, Trace::NONE);
        }
        if leaves_traces {
            known.touch(clock, seen.outcome.tcp_flags as u8);
        }
        seen.to = known.to;
        (known.service, known.target)
    });
    known.filter(|(service, _)| *service != Trace::NONE)
}
