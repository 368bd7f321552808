//! What makes an allocated address and port those of a flow.

use crate::abi::Reason;

use super::{
    super::{Host, InsertOutcome, NatTables, ServiceTables},
    Scratch, StepResult,
    fullnat::{entry, needs_source},
};

/// Makes the place that [`super::allocate`] found the flow's, unless another packet of the flow has just found another one.
#[inline(always)]
pub(super) fn confirm<T: ServiceTables + NatTables + Host>(tables: &T, scratch: &mut Scratch) -> StepResult {
    if needs_source(tables, scratch)?.is_none() || tables.explains() {
        return Ok(());
    }
    let key = scratch.ends();
    let mut there = entry(tables, scratch, scratch.to);
    there.begin(scratch.outcome.tcp_flags as u8);
    if tables.claim(&key, &there) == InsertOutcome::Made {
        return Ok(());
    }
    tables.forget_translation(&scratch.to.reversed());
    let first = tables.translation(&key, |first| {
        scratch.to = first.to;
        first.target
    });
    scratch.outcome.target = first.ok_or(Reason::NoSourcePort)?;
    let target = tables.target(scratch.outcome.target).ok_or(Reason::Unresolved)?;
    scratch.outcome.egress = 0;
    scratch.outcome.leave_by(target.egress, tables.ingress());
    Ok(())
}
