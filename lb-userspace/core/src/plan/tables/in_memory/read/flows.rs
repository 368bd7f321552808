//! Flows: their slots, and what was written down of them.

use lb_common::{
    abi::{FlowKey, FlowValue, FragmentEntry, FragmentKey, SLOTS_PER_LINE, Slot, SlotLine, TrackingCounters},
    flow::{self, Event, FlowTable, Query, Selected, SharedLine, Word},
    pipeline::FlowTables,
};

use super::InMemory;

impl FlowTables for InMemory {
    fn seed(&self) -> u64 {
        self.seed
    }

    fn slots(&self, line: u32) -> Option<&SlotLine> {
        self.slots.get(line as usize)
    }

    fn look_up(&self, query: &Query) -> Selected {
        flow::look_up(self, query)
    }

    fn count(&self, number: u32, event: Event) {
        FlowTable::count(self, number, event);
    }

    fn fragments(&self, key: &FragmentKey, record: &mut FragmentEntry) -> bool {
        let known = self.fragments.borrow().get(key).copied();
        *record = known.unwrap_or(*record);
        known.is_some()
    }

    fn note_fragments(&self, key: &FragmentKey, record: &FragmentEntry) {
        self.fragments.borrow_mut().insert(*key, *record);
    }

    fn forget_fragments(&self, key: &FragmentKey) {
        self.fragments.borrow_mut().remove(key);
    }
}

impl FlowTable for InMemory {
    fn lines(&self) -> u32 {
        self.flows.len() as u32
    }

    fn line(&self, index: u32) -> Option<&SharedLine> {
        self.flows.get(index as usize)
    }

    fn previous_owner(&self, slot: u32) -> Option<Slot> {
        let line = self.previous.get((slot / SLOTS_PER_LINE) as usize)?;
        Some(line.0[(slot % SLOTS_PER_LINE) as usize])
    }

    fn exchange(&self, word: &Word, old: u64, new: u64) -> bool {
        word.exchange(old, new)
    }

    fn known(&self, query: &Query, value: FlowValue, entry: u32) -> Selected {
        flow::known(self, query, value, entry)
    }

    fn better(&self, best: u32, nth: u32, value: FlowValue, clock: u32) -> u32 {
        flow::better(best, nth, value, clock)
    }

    fn insert(&self, key: FlowKey, value: FlowValue, clock: u32) -> bool {
        flow::insert(self, key, value, clock)
    }

    fn clock(&self) -> u32 {
        self.clock
    }

    fn count(&self, service: u32, event: Event) {
        self.change_tracking(service, |tracking| tracking.note(event));
    }

    fn spend(&self, service: u32, clock: u32) -> bool {
        let mut spends = false;
        self.change_tracking(service, |tracking| {
            let spent = match tracking.budget >> 32 {
                then if then == u64::from(clock) => tracking.budget & 0xffff_ffff,
                _ => 0,
            };
            spends = spent < u64::from(self.flow_budget);
            tracking.budget = u64::from(clock) << 32 | (spent + u64::from(spends));
        });
        spends
    }
}

impl InMemory {
    fn change_tracking(&self, service: u32, change: impl FnOnce(&mut TrackingCounters)) {
        let cell = &self.tracking[service as usize & 0xffff];
        let mut tracking = cell.get();
        change(&mut tracking);
        cell.set(tracking);
    }
}
