//! Which backend a packet goes to.

use crate::abi::{Forward, FragmentMode, Reason, ServiceFlags, TtlExpiredMode};

use super::{
    super::{
        FlowTables, Host, ServiceTables,
        family::{Family, V4, V6},
        select::{flow_hash, pick},
    },
    PacketKind, Scratch, StepResult,
};

/// Picks the backend, unless it is known already: [`crate::pipeline::Outcome::target`].
#[inline(always)]
pub(super) fn select<T: ServiceTables + FlowTables + Host>(tables: &T, scratch: &mut Scratch) -> StepResult {
    if scratch.v6 == 0 {
        within::<V4, T>(tables, scratch)
    } else {
        within::<V6, T>(tables, scratch)
    }
}

#[inline(always)]
fn within<F: Family, T: ServiceTables + FlowTables + Host>(tables: &T, scratch: &mut Scratch) -> StepResult {
    let options = tables
        .options(scratch.service.number())
        .copied()
        .unwrap_or_default();
    let is_fragment = scratch.fragment != 0;
    if is_fragment && options.fragments == FragmentMode::Drop {
        return Err(Reason::Fragment);
    }
    let goes_by_ports = !(is_fragment && options.fragments == FragmentMode::Hash3);
    let (source, seed) = (F::narrow(scratch.source), tables.seed());
    let ports = if goes_by_ports { scratch.ports } else { 0 };
    scratch.hash = flow_hash::<F>(&scratch.service, source, ports, seed);
    let flow = || F::hash(source, ports, seed);
    // Errors about a flow do not make it one, and neither does what gets no further.
    let expires = scratch.ttl <= 1;
    let leaves_traces = !scratch.is(PacketKind::IcmpError) && !expires;
    let (service, hash) = (scratch.service, scratch.hash);
    let picked = if scratch.is_placed() {
        tables.target(scratch.outcome.target).ok_or(Reason::Unresolved)
    } else {
        pick(tables, &service, hash, flow, leaves_traces, &mut scratch.outcome)
    };
    // For this host itself the last hop is far enough.
    let stays = match picked {
        Ok(target) => target.forward == Forward::Local,
        Err(reason) => matches!(reason, Reason::EmptyPassed),
    };
    if expires && !stays {
        return Err(if options.ttl_expired == TtlExpiredMode::Answer {
            Reason::TtlAnswered
        } else {
            Reason::TtlExpired
        });
    }
    let target = match picked {
        Ok(_) if stays => return Err(Reason::Local),
        Ok(target) => target,
        Err(Reason::NoBackend) if service.flags.intersects(ServiceFlags::REJECT_WHEN_EMPTY) => {
            return Err(Reason::Rejected);
        }
        Err(reason) => return Err(reason),
    };
    if scratch.len > u32::from(target.max_len) {
        // Also the answer of an unresolved target, whose line is all zero.
        if target.forward == Forward::Unresolved {
            return Err(Reason::Unresolved);
        }
        scratch.max_len = u32::from(target.max_len);
        return Err(Reason::TooBigAnswered);
    }
    scratch.outcome.leave_by(target.egress, tables.ingress());
    Ok(())
}
