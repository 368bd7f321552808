//! Flows through `fullnat`, and the addresses and ports that they are given.

use crate::abi::{FlowEnds, NatEntry, SnatPoolEntry};

/// What became of an entry to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// It is there.
    Made,
    /// Another is there by that key.
    Taken,
    /// There is no room.
    Full,
}

/// The tables of address translation.
pub trait NatTables {
    /// What `visit` makes of the entry of map `TRANSLATIONS` by that key, if there is one. It may write words of it: other CPUs may
    /// do so at the same time.
    fn translation<R>(&self, key: &FlowEnds, visit: impl FnOnce(&mut NatEntry) -> R) -> Option<R>;
    /// Inserts an entry where none is by that key.
    fn claim(&self, key: &FlowEnds, entry: &NatEntry) -> InsertOutcome;
    /// Removes an entry.
    fn forget_translation(&self, key: &FlowEnds);
    /// What `fullnat` flows of IPv4 or IPv6 are given places of.
    fn source_pool(&self, v6: bool) -> SnatPoolEntry;
    /// An entry of map `NAT_SOURCES`.
    fn nat_source(&self, index: u32) -> Option<[u64; 2]>;
}
