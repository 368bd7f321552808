//! The counters of packets.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use lb_common::{
    abi::{Reason, TargetCounters, Trace},
    pipeline::Outcome,
};

#[map]
static COUNTS: PerCpuArray<TargetCounters> = PerCpuArray::with_max_entries(1, 0);
#[map]
static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);

/// One counter write: a packet of a target counts there, any other under its reason.
#[inline(always)]
pub(in super::super) fn count(reason: Reason, outcome: &Outcome) {
    match reason {
        Reason::Forwarded | Reason::Local => {
            if let Some(count) = COUNTS.get_ptr_mut(outcome.target) {
                // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
                let count = unsafe { &mut *count };
                count.packets += 1;
                count.bytes += u64::from(outcome.bytes);
                if outcome.concerns_flow() {
                    count.flows += u64::from(outcome.opens_flow());
                    count.closed += u64::from(outcome.closes_flow());
                }
            }
        }
        Reason::Returned => {
            if let Some(count) = COUNTS.get_ptr_mut(outcome.target) {
                // SAFETY: as above.
                let count = unsafe { &mut *count };
                count.returned_packets += 1;
                count.returned_bytes += u64::from(outcome.bytes);
            }
        }
        reason => {
            if let Some(packets) = REASONS.get_ptr_mut(reason.number()) {
                // SAFETY: as above.
                unsafe { *packets += 1 };
            }
        }
    }
}

const _: () = assert!(
    Trace::NONE == u32::MAX,
    "no target has that index, so nothing is counted there"
);
