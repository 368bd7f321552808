//! Flows: their slots, and what was written down of them.

use crate::{
    abi::{FragmentEntry, FragmentKey, SlotLine},
    flow::{Event, Query, Selected},
};

/// The tables that say which backend a flow belongs to. The rules of one of them, the flow table, ask
/// [`crate::flow::FlowTable`].
pub trait FlowTables {
    /// Seed of the flow hash.
    fn seed(&self) -> u64;
    /// A line of map `SLOTS`.
    fn slots(&self, line: u32) -> Option<&SlotLine>;
    /// Asks the flow table: [`crate::flow::look_up`], which the kernel build makes a function of its own.
    fn look_up(&self, query: &Query) -> Selected;
    /// Notes what became of a packet of the service of that number.
    fn count(&self, number: u32, event: Event);
    /// What is known of the packet that a fragment is of, from map `FRAGMENTS` into `record`; false if nothing is.
    fn fragments(&self, key: &FragmentKey, record: &mut FragmentEntry) -> bool;
    /// Notes what is known of it.
    fn note_fragments(&self, key: &FragmentKey, record: &FragmentEntry);
    /// All of its fragments were seen.
    fn forget_fragments(&self, key: &FragmentKey);
}
