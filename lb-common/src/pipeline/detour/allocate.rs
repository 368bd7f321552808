//! An address and port of the balancer's own for a new `fullnat` flow.

use crate::{
    abi::{FlowEnds, NatEntry, Reason, SnatPoolEntry, TargetEntry},
    hash,
    net::load64,
};

use super::{
    super::{Host, InsertOutcome, NatTables, Packet, Tables},
    PacketKind, Scratch, StepResult,
    fullnat::{entry, needs_source},
    scratch::offset,
};

/// Gives a new flow an address and port of its own, if its backend is reached so: [`Scratch::to`].
///
/// A first packet that is sent again tries other places: its IP header differs in the identification, or the flow label.
#[inline(always)]
pub(super) fn allocate<P: Packet, T: Tables>(packet: &P, tables: &T, scratch: &mut Scratch) -> StepResult {
    let Some(port) = needs_source(tables, scratch)? else {
        return Ok(());
    };
    if scratch.is(PacketKind::IcmpError) {
        // About no flow of ours.
        return Err(scratch.for_no_service());
    }
    let target = tables.target(scratch.outcome.target).ok_or(Reason::Unresolved)?;
    scratch.to.destination = target.addresses[TargetEntry::BACKEND];
    scratch.to.protocol = scratch.protocol;
    let pool = tables.source_pool(scratch.v6 != 0);
    let seed = tables.seed();
    let client = hash::mix_wide(scratch.source, 0, seed);
    let header: &[u8; 8] = packet.view(offset(scratch.network)).ok_or(Reason::Truncated)?;
    let flow = hash::mix(
        hash::mix_wide(scratch.source, scratch.ports, seed),
        load64(header, 0),
    );
    let back = NatEntry {
        is_back: 1,
        ..entry(tables, scratch, scratch.ends().reversed())
    };
    for nth in 0..SnatPoolEntry::TRIES {
        let Some((address, source_port)) = pool.source_port(client, flow, nth) else {
            break;
        };
        scratch.to.source = tables.nat_source(address).ok_or(Reason::NoSourcePort)?;
        scratch.to.ports = FlowEnds::ports(source_port, port);
        match claim(tables, &scratch.to.reversed(), &back) {
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
fn claim<T: NatTables + Host>(tables: &T, key: &FlowEnds, entry: &NatEntry) -> InsertOutcome {
    if !tables.explains() {
        return tables.claim(key, entry);
    }
    // A place of the same client's flow that has ended would have been given up.
    match tables.translation(key, |known| known.to == entry.to) {
        Some(false) => InsertOutcome::Taken,
        Some(true) | None => InsertOutcome::Made,
    }
}
