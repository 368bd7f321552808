//! What makes an allocated address and port those of a flow.

use crate::abi::Reason;

use super::{
    super::Tables,
    InsertOutcome, Scratch, StepResult,
    fullnat::{entry, needs_source},
};

/// Makes the place that [`super::allocate`] found the flow's, unless another packet of the flow has just found another one.
#[inline(always)]
pub(super) fn confirm<T: Tables>(tables: &T, seen: &mut Scratch) -> StepResult {
    if needs_source(tables, seen)?.is_none() || tables.explains() {
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
