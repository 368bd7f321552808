//! Flows through `fullnat` in the kernel, and what they are given places of.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap},
};
use lb_common::{
    abi::{FlowEnds, MAX_NAT_SOURCES, NatEntry, SnatPoolEntry},
    pipeline::detour::InsertOutcome,
};

/// Takes memory for the entries that it has, and for the heads of the lists that the kernel keeps them in.
#[map]
static TRANSLATIONS: HashMap<FlowEnds, NatEntry> = HashMap::with_max_entries(2, BPF_F_NO_PREALLOC);
#[map]
static SOURCE_POOLS: Array<SnatPoolEntry> = Array::with_max_entries(2, 0);
#[map]
static NAT_SOURCES: Array<[u64; 2]> = Array::with_max_entries(MAX_NAT_SOURCES, 0);

/// `EEXIST`, as the helper returns it.
const EXISTS: i32 = -17;

/// The entry by that key.
#[inline(always)]
pub(super) fn get<'a>(key: &FlowEnds) -> Option<&'a mut NatEntry> {
    let entry = TRANSLATIONS.get_ptr_mut(key)?;
    // SAFETY: entries are plain words, and their memory outlives the program's run (RCU). Another CPU may write the same
    // words at the same time: whichever is later is as good. An entry that is removed meanwhile may become another flow's,
    // whose next packet then mends what was written.
    Some(unsafe { &mut *entry })
}

/// Inserts an entry where none is.
#[inline(always)]
pub(super) fn claim(key: &FlowEnds, entry: &NatEntry) -> InsertOutcome {
    match TRANSLATIONS.insert(key, entry, u64::from(BPF_NOEXIST)) {
        Ok(()) => InsertOutcome::Made,
        Err(error) if error == EXISTS => InsertOutcome::Taken,
        Err(_) => InsertOutcome::Full,
    }
}

/// Removes an entry.
#[inline(always)]
pub(super) fn forget(key: &FlowEnds) {
    let _ = TRANSLATIONS.remove(key);
}

/// What flows of IPv4 or IPv6 are given places of. The agent changes it under way: which addresses is one word, and
/// which ports another.
#[inline(always)]
pub(super) fn pool(v6: bool) -> SnatPoolEntry {
    let Some(pool) = SOURCE_POOLS.get_ptr(u32::from(v6)) else {
        return SnatPoolEntry::default();
    };
    let words = pool.cast::<u64>();
    // SAFETY: the value is two words long, and values of arrays begin at whole words.
    let [rows, ports] = unsafe { [words.read_volatile(), words.add(1).read_volatile()] };
    SnatPoolEntry {
        first: rows as u32,
        addresses: (rows >> 32) as u32,
        first_port: ports as u32,
        ports: (ports >> 32) as u32,
    }
}

/// An address of a pool.
#[inline(always)]
pub(super) fn source(index: u32) -> Option<[u64; 2]> {
    NAT_SOURCES.get(index).copied()
}
