//! The flow table in the kernel, and the function that asks it: the verifier checks a global function once, whoever
//! calls it, and the packets that need none of it do not pay for it.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_jiffies64,
    macros::map,
    maps::{Array, PerCpuArray},
};
use lb_common::{
    abi::{FlowKey, FlowLine, FlowValue, SLOTS_PER_LINE, Slot, SlotLine, TrackingCounters},
    flow::{Event, FlowTable, Query, Selected, SharedLine, Word, better, insert, known, look_up},
};

use super::super::globals;

#[map]
static PREVIOUS: Array<SlotLine> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static FLOWS: Array<FlowLine> = Array::with_max_entries(2, BPF_F_MMAPABLE);
#[map]
static TRACKING: PerCpuArray<TrackingCounters> = PerCpuArray::with_max_entries(1, 0);

/// Asks the flow table.
#[inline(always)]
pub(super) fn ask(query: &Query) -> Selected {
    let Query {
        key,
        service,
        packet,
        slot_index,
    } = *query;
    Selected(lb_look_up(key.0, service, packet, slot_index))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_look_up(key: u64, service: u32, packet: u32, slot_index: u32) -> u32 {
    let query = Query {
        key: FlowKey(key),
        service,
        packet,
        slot_index,
    };
    look_up(&Kernel, &query).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_known(key: u64, service: u32, packet: u32, value: u64, entry: u32) -> u32 {
    // A flow that is known asks for no previous owner.
    let query = Query {
        key: FlowKey(key),
        service,
        packet,
        slot_index: 0,
    };
    known(&Kernel, &query, FlowValue(value), entry).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_better(best: u32, nth: u32, value: u64, clock: u32) -> u32 {
    better(best, nth, FlowValue(value), clock)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_insert(key: u64, value: u64, clock: u32) -> u32 {
    u32::from(insert(&Kernel, FlowKey(key), FlowValue(value), clock))
}

/// The flow clock.
#[inline(always)]
pub(in super::super) fn clock() -> u32 {
    // SAFETY: a helper without arguments that reads a counter of the kernel.
    (unsafe { bpf_jiffies64() } >> globals::CLOCK_SHIFT.load()) as u32
}

struct Kernel;

impl FlowTable for Kernel {
    #[inline(always)]
    fn lines(&self) -> u32 {
        globals::FLOW_LINES.load()
    }

    #[inline(always)]
    fn line(&self, index: u32) -> Option<&SharedLine> {
        // SAFETY: a line of the map lives as long as the program; `SharedLine` has its layout, and all CPUs and the
        // agent change it by atomic words only.
        FLOWS
            .get_ptr(index)
            .map(|line| unsafe { &*line.cast::<SharedLine>() })
    }

    #[inline(always)]
    fn previous_owner(&self, slot: u32) -> Option<Slot> {
        let line = PREVIOUS.get(slot / SLOTS_PER_LINE)?;
        Some(line.0[(slot % SLOTS_PER_LINE) as usize])
    }

    #[inline(always)]
    fn exchange(&self, word: &Word, old: u64, new: u64) -> bool {
        #[cfg(target_arch = "bpf")]
        {
            use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg};
            // SAFETY: an aligned word that everybody changes by atomic instructions only.
            unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(word.as_ptr(), old, new).1 }
        }
        #[cfg(not(target_arch = "bpf"))]
        word.exchange(old, new)
    }

    #[inline(always)]
    fn known(&self, query: &Query, value: FlowValue, entry: u32) -> Selected {
        let Query {
            key, service, packet, ..
        } = *query;
        Selected(lb_known(key.0, service, packet, value.0, entry))
    }

    #[inline(always)]
    fn better(&self, best: u32, nth: u32, value: FlowValue, clock: u32) -> u32 {
        lb_better(best, nth, value.0, clock)
    }

    #[inline(always)]
    fn insert(&self, key: FlowKey, value: FlowValue, clock: u32) -> bool {
        lb_insert(key.0, value.0, clock) != 0
    }

    #[inline(always)]
    fn clock(&self) -> u32 {
        clock()
    }

    #[inline(always)]
    fn count(&self, service: u32, event: Event) {
        count(service, event);
    }

    #[inline(always)]
    fn spend(&self, service: u32, clock: u32) -> bool {
        let Some(tracking) = tracking(service) else {
            return false;
        };
        let spent = if (tracking.budget >> 32) as u32 == clock {
            tracking.budget as u32
        } else {
            0
        };
        if spent >= globals::FLOW_BUDGET.load() {
            return false;
        }
        tracking.budget = u64::from(clock) << 32 | u64::from(spent + 1);
        true
    }
}

/// Counts what became of a packet of a service.
#[inline(always)]
pub(super) fn count(service: u32, event: Event) {
    if let Some(tracking) = tracking(service) {
        tracking.note(event);
    }
}

/// What this CPU has counted for a service.
#[inline(always)]
fn tracking<'a>(service: u32) -> Option<&'a mut TrackingCounters> {
    // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
    TRACKING
        .get_ptr_mut(service & 0xffff)
        .map(|tracking| unsafe { &mut *tracking })
}
