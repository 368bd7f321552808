//! What the flow table's rules ask for, and what they count.

use crate::abi::{FlowKey, FlowValue, Slot, TrackingCounters};

use super::{Query, Selected, SharedLine, Word};

/// What the rules ask of the table and its surroundings.
pub trait FlowTable {
    /// Lines of the table, a power of two of at least 2.
    fn lines(&self) -> u32;
    /// A line.
    fn line(&self, index: u32) -> Option<&SharedLine>;
    /// The entry of `PREVIOUS` for the slot of that number.
    fn previous_owner(&self, slot: u32) -> Option<Slot>;
    /// Puts `new` into a word of a line if it holds `old`, as one step: whether it did. (Rust has no such operation for
    /// the BPF target, though the instruction exists.)
    fn exchange(&self, word: &Word, old: u64, new: u64) -> bool;
    /// [`super::known`], which the kernel build makes a function of its own.
    fn known(&self, query: &Query, value: FlowValue, entry: u32) -> Selected;
    /// [`super::insert`], which the kernel build makes a function of its own.
    fn insert(&self, key: FlowKey, value: FlowValue, clock: u32) -> bool;
    /// [`super::better`], which the kernel build makes a function of its own.
    fn better(&self, best: u32, nth: u32, value: FlowValue, clock: u32) -> u32;
    /// The flow clock.
    fn clock(&self) -> u32;
    /// Notes what became of a packet of that service.
    fn count(&self, service: u32, event: Event);
    /// Takes one from the new flows that the service may write down in this unit of the clock; false when none is left.
    fn spend(&self, service: u32, clock: u32) -> bool;
}

/// What is counted: see [`crate::abi::TrackingCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The flow was in the table.
    Hit,
    /// A new flow was written down.
    Inserted,
    /// An established flow was written down.
    Adopted,
    /// An entry made room for another flow.
    Evicted,
    /// A flow was not written down.
    Refused,
    /// A connection ID named the backend.
    Routed,
    /// A connection ID named none.
    Unroutable,
}

impl TrackingCounters {
    /// Counts an event.
    #[inline(always)]
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Hit => self.hits += 1,
            Event::Inserted => self.inserted += 1,
            Event::Adopted => self.adopted += 1,
            Event::Evicted => self.evicted += 1,
            Event::Refused => self.refused += 1,
            Event::Routed => self.routed += 1,
            Event::Unroutable => self.unroutable += 1,
        }
    }
}
