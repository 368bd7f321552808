//! Fragments in the kernel: what is known of the packets that they are of.

use aya_ebpf::{macros::map, maps::LruHashMap};
use lb_common::abi::{FragmentEntry, FragmentKey};

/// Packets whose fragments are on their way at once; the oldest give way.
const PACKETS: u32 = 16_384;

#[map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentEntry> = LruHashMap::with_max_entries(PACKETS, 0);

/// What is known of the packet, into `record`; false if nothing is.
#[inline(always)]
pub(super) fn get(key: &FragmentKey, record: &mut FragmentEntry) -> bool {
    // SAFETY: an entry is plain words. Another CPU may change it meanwhile: then an overlap goes unnoticed at worst.
    match unsafe { FRAGMENTS.get(key) } {
        Some(known) => {
            *record = *known;
            true
        }
        None => false,
    }
}

/// Notes what is known of it. Where that fails, its later fragments are strangers.
#[inline(always)]
pub(super) fn note(key: &FragmentKey, record: &FragmentEntry) {
    let _ = FRAGMENTS.insert(key, record, 0);
}

/// Forgets it.
#[inline(always)]
pub(super) fn forget(key: &FragmentKey) {
    let _ = FRAGMENTS.remove(key);
}
