//! Tables in plain memory as packets read them, on the host.

use lb_common::{
    abi::{
        AclKey, DeviceEntry, Features, FlowEnds, FlowKey, FlowValue, FragmentEntry, FragmentKey, Key4, Key6,
        Lengths, Mac, MacKey, NatEntry, OptionsEntry, OwnMacs, QuicSetEntry, RoundKeys, SLOTS_PER_LINE,
        ServerIdEntry, ServerTable, ServiceEntry, ServiceLine4, ServiceLine6, Slot, SlotLine, SnatPoolEntry,
        TableIndex, TagsEntry, TargetEntry, TrackingCounters, follow_chain,
    },
    flows::{self, Event, FlowTable, Query, Selected, SharedLine, Word},
    pipeline::{self, Route, RouteQuery, Tables, detour::InsertOutcome},
    quic::aes::{self, Block, Cipher},
};

use super::InMemory;

impl Cipher for InMemory {
    fn encrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        aes::encrypt(keys, block)
    }

    fn decrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        aes::decrypt(keys, block)
    }
}

impl Tables for InMemory {
    fn seed(&self) -> u64 {
        self.seed
    }

    fn features(&self) -> Features {
        self.control.features
    }

    fn service_index(&self, v6: bool) -> TableIndex {
        self.control.index(v6, self.service_bits)
    }

    fn service_line4(&self, line: u32) -> Option<&ServiceLine4> {
        self.services4.get(line as usize)
    }

    fn service_line6(&self, line: u32) -> Option<&ServiceLine6> {
        self.services6.get(line as usize)
    }

    fn follow4(&self, first: u32, key: &Key4) -> u32 {
        follow_chain(first, key, |line| self.service_line4(line))
    }

    fn follow6(&self, first: u32, key: &Key6) -> u32 {
        follow_chain(first, key, |line| self.service_line6(line))
    }

    fn look_up4(&self, key: &Key4) -> Option<ServiceEntry> {
        pipeline::look_up4(self, key)
    }

    fn look_up6(&self, key: &Key6) -> Option<ServiceEntry> {
        pipeline::look_up6(self, key)
    }

    fn lengths(&self, v6: bool) -> Lengths {
        self.control.lengths[usize::from(v6)]
    }

    fn slots(&self, line: u32) -> Option<&SlotLine> {
        self.slots.get(line as usize)
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

    fn may_answer(&self, _: lb_common::abi::Reason) -> bool {
        let left = self.answers.get();
        let may = self.explains || left > 0;
        if may && !self.explains {
            self.answers.set(left - 1);
        }
        may
    }

    fn now(&self) -> u32 {
        self.clock
    }

    fn look_up(&self, query: &Query) -> Selected {
        flows::look_up(self, query)
    }

    fn explains(&self) -> bool {
        self.explains
    }

    fn target(&self, index: u32) -> Option<&TargetEntry> {
        self.targets.get(index as usize)
    }

    fn options(&self, number: u32) -> Option<&OptionsEntry> {
        self.options.get(number as usize)
    }

    fn tags(&self, index: u32) -> Option<&TagsEntry> {
        self.tags.get(index as usize)
    }

    fn access(&self, client: &AclKey) -> u32 {
        let holding = self
            .sources
            .iter()
            .filter(|entry| entry.key.agrees(client, entry.bits));
        holding
            .max_by_key(|entry| entry.bits)
            .map_or(0, |entry| entry.access)
    }

    fn quic(&self, index: u32) -> Option<&QuicSetEntry> {
        self.quic.get(index as usize)
    }

    fn server(&self, table: &ServerTable, id: &ServerIdEntry) -> Option<u32> {
        table.look_up(id, |line| self.servers.get(line as usize))
    }

    fn count(&self, number: u32, event: Event) {
        FlowTable::count(self, number, event);
    }

    fn common_mac(&self, index: usize) -> Mac {
        self.macs.own.common[index]
    }

    fn own_mac(&self, interface: u32) -> MacKey {
        self.macs.own.own[OwnMacs::place(interface) as usize]
    }

    fn has_mac(&self, key: &MacKey) -> bool {
        self.macs.entries.contains(key)
    }

    fn accepts(&self, mac: Mac, is_for_group: bool) -> bool {
        pipeline::accepts(self, mac, is_for_group)
    }

    fn upper(&self, interface: u32) -> Option<DeviceEntry> {
        self.uppers.get(&interface).copied()
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }

    fn route(&self, query: &RouteQuery) -> Route {
        self.routing.map_or(self.route, |routing| routing(self, query))
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
        flows::known(self, query, value, entry)
    }

    fn better(&self, best: u32, nth: u32, value: FlowValue, clock: u32) -> u32 {
        flows::better(best, nth, value, clock)
    }

    fn insert(&self, key: FlowKey, value: FlowValue, clock: u32) -> bool {
        flows::insert(self, key, value, clock)
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
