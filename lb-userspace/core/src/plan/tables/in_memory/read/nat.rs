//! Flows through `fullnat`, and the addresses and ports that they are given.

use lb_common::{
    abi::{FlowEnds, NatEntry, SnatPoolEntry},
    pipeline::{InsertOutcome, NatTables},
};

use super::InMemory;

impl NatTables for InMemory {
    fn translation<R>(&self, key: &FlowEnds, visit: impl FnOnce(&mut NatEntry) -> R) -> Option<R> {
        self.translations.borrow_mut().get_mut(key).map(visit)
    }

    fn claim(&self, key: &FlowEnds, entry: &NatEntry) -> InsertOutcome {
        let mut entries = self.translations.borrow_mut();
        if entries.contains_key(key) {
            return InsertOutcome::Taken;
        }
        if entries.len() >= self.translations_limit {
            return InsertOutcome::Full;
        }
        entries.insert(*key, *entry);
        InsertOutcome::Made
    }

    fn forget_translation(&self, key: &FlowEnds) {
        self.translations.borrow_mut().remove(key);
    }

    fn source_pool(&self, v6: bool) -> SnatPoolEntry {
        self.source_pools[usize::from(v6)]
    }

    fn nat_source(&self, index: u32) -> Option<[u64; 2]> {
        self.nat_sources.get(index as usize).copied()
    }
}
