//! Answers `lb explain`: see [`Trace`].

use aya_ebpf::programs::XdpContext;
use lb_common::{
    abi::{Reason, Trace},
    pipeline::Outcome,
};

use super::maps;

/// The trace that the packet carries, if it is to be explained.
#[inline(always)]
pub(super) fn of(context: &XdpContext) -> Option<*mut Trace> {
    let start = context.metadata();
    if start + size_of::<Trace>() > context.metadata_end() {
        return None;
    }
    let trace = start as *mut Trace;
    // SAFETY: the record lies inside the metadata, which is ours while the program runs; metadata is aligned to 4.
    let magic = unsafe { (*trace).magic };
    (magic == Trace::MAGIC).then_some(trace)
}

/// Fills in the trace if the packet carries one; such a packet is not to be counted.
#[inline(always)]
pub(super) fn fill_in(context: &XdpContext, reason: Reason, outcome: &Outcome) -> bool {
    let Some(trace) = of(context) else {
        return false;
    };
    // SAFETY: as in `of`, and nobody else looks at the metadata meanwhile.
    let trace = unsafe { &mut *trace };
    trace.reason = reason.number();
    trace.service = outcome.service_number();
    trace.target = outcome.target;
    trace.slot = outcome.slot;
    trace.egress = outcome.egress;
    trace.placement = outcome.placement.into();
    trace.clock = maps::clock();
    true
}
