//! How many answers (ICMP errors, TCP resets) may be made.

use aya_ebpf::{macros::map, maps::PerCpuArray};

use super::{flows, globals};

#[map]
static ANSWERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Takes one answer off what this CPU may make in this unit of the flow clock; false if there is none left.
#[inline(always)]
pub(super) fn spend() -> bool {
    let Some(answers) = ANSWERS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
    let answers = unsafe { &mut *answers };
    let clock = flows::clock();
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
