//! Which backend a packet goes to.

use crate::abi::Reason;

use super::{
    super::{
        Tables,
        family::{Family, V4, V6},
        place::{flow_hash, pick},
    },
    Seen, Step,
};

/// Picks the backend: [`crate::pipeline::Outcome::target`].
#[inline(always)]
pub(super) fn place<T: Tables>(tables: &T, seen: &mut Seen) -> Step {
    if seen.v6 == 0 {
        within::<V4, T>(tables, seen)
    } else {
        within::<V6, T>(tables, seen)
    }
}

#[inline(always)]
fn within<F: Family, T: Tables>(tables: &T, seen: &mut Seen) -> Step {
    if seen.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let (source, ports, seed) = (F::narrow(seen.source), seen.ports, tables.seed());
    seen.hash = flow_hash::<F>(&seen.service, source, ports, seed);
    let flow = || F::hash(source, ports, seed);
    let target = pick(tables, &seen.service, seen.hash, flow, &mut seen.outcome)?;
    if seen.len > u32::from(target.max_len) {
        // Also the answer of an unresolved target, whose line is all zero.
        return Err(if target.forward == 0 {
            Reason::Unresolved
        } else {
            Reason::TooBig
        });
    }
    if target.egress != 0 && target.egress != tables.ingress() {
        seen.outcome.egress = target.egress;
    }
    Ok(())
}
