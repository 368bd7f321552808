//! How many answers (ICMP errors, TCP resets) may be made.
//!
//! What fits is told from a budget of its own: a flood of packets at their last hop must not keep clients from finding
//! out the path's MTU.

use aya_ebpf::{macros::map, maps::PerCpuArray};

use lb_common::abi::Reason;

use super::{super::globals, flow_table};

#[map]
static ANSWERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// Takes one answer for that reason off what this CPU may make in this unit of the flow clock; false if there is none left.
#[inline(always)]
pub(super) fn spend(reason: Reason) -> bool {
    let Some(answers) = ANSWERS.get_ptr_mut(u32::from(reason == Reason::TooBigAnswered)) else {
        return false;
    };
    // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
    let answers = unsafe { &mut *answers };
    let clock = flow_table::clock();
    let spent = if (*answers >> 32) as u32 == clock {
        *answers as u32
    } else {
        0
    };
    if spent >= globals::ANSWER_BUDGET.load() {
        return false;
    }
    *answers = u64::from(clock) << 32 | u64::from(spent + 1);
    true
}
