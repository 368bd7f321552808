//! Flows through `fullnat` in the kernel, and the addresses and ports that they are given.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap},
};
use lb_common::{
    abi::{FlowEnds, MAX_NAT_SOURCES, NatEntry, SnatPoolEntry},
    pipeline::{InsertOutcome, NatTables},
};

use super::Maps;

/// Takes memory for the entries that it has, and for the heads of the lists that the kernel keeps them in.
#[map]
static TRANSLATIONS: HashMap<FlowEnds, NatEntry> = HashMap::with_max_entries(2, BPF_F_NO_PREALLOC);
#[map]
static SOURCE_POOLS: Array<SnatPoolEntry> = Array::with_max_entries(2, 0);
#[map]
static NAT_SOURCES: Array<[u64; 2]> = Array::with_max_entries(MAX_NAT_SOURCES, 0);

/// `EEXIST`, as the helper returns it.
const EXISTS: i32 = -17;

impl NatTables for Maps<'_> {
    #[inline(always)]
    fn translation<R>(&self, key: &FlowEnds, visit: impl FnOnce(&mut NatEntry) -> R) -> Option<R> {
        let entry = TRANSLATIONS.get_ptr_mut(key)?;
        // SAFETY: entries are plain words, and their memory outlives the program's run (RCU). Another CPU may write the same
        // words at the same time: whichever is later is as good. An entry that is removed meanwhile may become another flow's,
        // whose next packet then mends what was written.
        Some(visit(unsafe { &mut *entry }))
    }

    #[inline(always)]
    fn claim(&self, key: &FlowEnds, entry: &NatEntry) -> InsertOutcome {
        match TRANSLATIONS.insert(key, entry, u64::from(BPF_NOEXIST)) {
            Ok(()) => InsertOutcome::Made,
            Err(error) if error == EXISTS => InsertOutcome::Taken,
            Err(_) => InsertOutcome::Full,
        }
    }

    #[inline(always)]
    fn forget_translation(&self, key: &FlowEnds) {
        let _ = TRANSLATIONS.remove(key);
    }

    #[inline(always)]
    fn source_pool(&self, v6: bool) -> SnatPoolEntry {
        // The agent changes an entry under way: which addresses is one word, and which ports another.
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

    #[inline(always)]
    fn nat_source(&self, index: u32) -> Option<[u64; 2]> {
        NAT_SOURCES.get(index).copied()
    }
}
