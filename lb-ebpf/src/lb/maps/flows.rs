//! The tables that say which backend a flow belongs to, in the kernel.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, LruHashMap},
};
use lb_common::{
    abi::{FragmentEntry, FragmentKey, SlotLine},
    flow::{Event, Query, Selected},
    pipeline::FlowTables,
};

use super::{super::globals, Maps, flow_table};

/// Packets whose fragments are on their way at once; the oldest give way.
const PACKETS: u32 = 16_384;

#[map]
static SLOTS: Array<SlotLine> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentEntry> = LruHashMap::with_max_entries(PACKETS, 0);

impl FlowTables for Maps<'_> {
    #[inline(always)]
    fn seed(&self) -> u64 {
        globals::SEED.load()
    }

    #[inline(always)]
    fn slots(&self, line: u32) -> Option<&SlotLine> {
        SLOTS.get(line)
    }

    #[inline(always)]
    fn look_up(&self, query: &Query) -> Selected {
        flow_table::ask(query)
    }

    #[inline(always)]
    fn count(&self, number: u32, event: Event) {
        flow_table::count(number, event);
    }

    #[inline(always)]
    fn fragments(&self, key: &FragmentKey, record: &mut FragmentEntry) -> bool {
        // SAFETY: an entry is plain words. Another CPU may change it meanwhile: then an overlap goes unnoticed at worst.
        match unsafe { FRAGMENTS.get(key) } {
            Some(known) => {
                *record = *known;
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn note_fragments(&self, key: &FragmentKey, record: &FragmentEntry) {
        // Where that fails, the packet's later fragments are strangers.
        let _ = FRAGMENTS.insert(key, record, 0);
    }

    #[inline(always)]
    fn forget_fragments(&self, key: &FragmentKey) {
        let _ = FRAGMENTS.remove(key);
    }
}
