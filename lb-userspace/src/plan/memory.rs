//! Where writes go: the kernel's maps, or plain memory that the host build of the pipeline reads.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
};

use lb_common::{
    abi::{
        CellRecord, Control, Ends, Features, FlowKey, FlowLine, FlowValue, FragmentKey, FragmentRecord, Key4,
        Key6, Lengths, PoolRecord, QuicSet, RoundKeys, SLOTS_PER_LINE, ServerId, ServerLine, ServerTable,
        Service, ServiceLine4, ServiceLine6, ServiceOptions, Slot, SlotLine, SourceKey, SourcePool,
        TableIndex, Tags, Target, Tracking, Translation, Upper, follow_chain,
    },
    flows::{self, Event, FlowTable, Placed, Query, SharedLine, Word},
    pipeline::{self, Route, RouteQuery, Tables, detour::Claim},
    quic::aes::{self, Block, Cipher},
};

use super::{adopt::ReadBack, capacity::Capacity, sources::SourceEntry, write::Write};

/// Something that holds the tables.
pub trait Memory {
    /// Returns when every packet that was on its way has left.
    fn wait_for_packets(&mut self);
    /// Stores what a number stands for.
    fn write_pool(&mut self, number: u16, record: &PoolRecord);
    /// Stores whose a target is.
    fn write_cell(&mut self, index: u32, record: &CellRecord);
    /// Stores a whole target.
    fn write_target(&mut self, index: u32, target: &Target);
    /// Stores the tags of a target that no packet can reach.
    fn write_tags(&mut self, index: u32, tags: Tags);
    /// Stores the options of a service.
    fn write_options(&mut self, number: u16, options: &ServiceOptions);
    /// Stores lines of server IDs.
    fn write_servers(&mut self, line: u32, lines: &[ServerLine]);
    /// Stores a set of QUIC configurations.
    fn write_quic(&mut self, index: u32, set: &QuicSet);
    /// Stores entries of lists of clients.
    fn write_sources(&mut self, entries: &[SourceEntry]);
    /// Removes them.
    fn remove_sources(&mut self, entries: &[SourceEntry]);
    /// Stores a target's MACs, the half with the next hop's first.
    fn write_macs(&mut self, index: u32, target: &Target);
    /// Stores those of a table's previous owners that differ.
    fn write_previous(&mut self, line: u32, slots: &[Slot]);
    /// Shows every entry of the flow table that is in use; what comes back takes its place if it has not changed
    /// meanwhile.
    fn visit_flows(&mut self, visit: &mut dyn FnMut(FlowKey, FlowValue) -> Option<FlowValue>);
    /// Puts an entry into the flow table, as the program would find it; false when there is no room.
    fn insert_flow(&mut self, key: FlowKey, value: FlowValue) -> bool;
    /// Stores those of a table's slots that differ.
    fn write_slots(&mut self, line: u32, slots: &[Slot]);
    /// Stores lines of the IPv4 service table.
    fn write_services4(&mut self, line: u32, lines: &[ServiceLine4]);
    /// Stores lines of the IPv6 service table.
    fn write_services6(&mut self, line: u32, lines: &[ServiceLine6]);
    /// Switches to the tables just written: see [`Control`].
    fn publish(&mut self, control: &Control);
}

/// Carries out a plan's writes.
pub fn apply(writes: &[Write], memory: &mut (impl Memory + ?Sized)) {
    for write in writes {
        match write {
            Write::Wait => memory.wait_for_packets(),
            Write::Pool { number, record } => memory.write_pool(*number, record),
            Write::Cell { index, record } => memory.write_cell(*index, record),
            Write::Target { index, entry } => {
                memory.write_tags(*index, entry.tags);
                memory.write_target(*index, &entry.target);
            }
            Write::Options { number, options } => memory.write_options(*number, options),
            Write::Servers { line, lines } => memory.write_servers(*line, lines),
            Write::Quic { index, set } => memory.write_quic(*index, set),
            Write::Sources(entries) => memory.write_sources(entries),
            Write::SourcesGone(entries) => memory.remove_sources(entries),
            Write::Macs { index, target } => memory.write_macs(*index, target),
            Write::Previous { line, slots } => memory.write_previous(*line, slots),
            Write::Slots { line, slots } => memory.write_slots(*line, slots),
            Write::Services4 { line, lines } => memory.write_services4(*line, lines),
            Write::Services6 { line, lines } => memory.write_services6(*line, lines),
            Write::Publish(control) => memory.publish(control),
        }
    }
}

/// Puts an entry into a table of those lines.
pub fn insert_flow(lines: &[SharedLine], key: FlowKey, value: FlowValue) -> bool {
    let first = key.line(lines.len() as u32);
    [first, first ^ 1]
        .iter()
        .filter_map(|line| lines.get(*line as usize))
        .any(|line| line.put(key, value))
}

/// Tables in plain memory, for the host build of the pipeline.
#[derive(Clone, Debug)]
pub struct InMemory {
    pub(super) control: Control,
    seed: u64,
    service_bits: u32,
    services4: Vec<ServiceLine4>,
    services6: Vec<ServiceLine6>,
    slots: Vec<SlotLine>,
    pub(super) previous: Vec<SlotLine>,
    flows: Vec<SharedLine>,
    tracking: Vec<Cell<Tracking>>,
    flow_budget: u32,
    targets: Vec<Target>,
    tags: Vec<Tags>,
    options: Vec<ServiceOptions>,
    sources: BTreeSet<SourceEntry>,
    quic: Vec<QuicSet>,
    servers: Vec<ServerLine>,
    pools: Vec<PoolRecord>,
    cells: Vec<CellRecord>,
    fragments: RefCell<HashMap<FragmentKey, FragmentRecord>>,
    /// Flows through `fullnat`.
    pub translations: RefCell<HashMap<Ends, Translation>>,
    translations_limit: usize,
    /// What `fullnat` flows are given places of: IPv4, IPv6.
    pub source_pools: [SourcePool; 2],
    /// Addresses of these pools.
    pub nat_sources: Vec<[u64; 2]>,
    /// Answers that may still be made.
    pub answers: Cell<u32>,
    /// What is known of interfaces, by index.
    pub uppers: BTreeMap<u32, Upper>,
    /// What the host's routing says to everything, unless [`InMemory::routing`] does.
    pub route: Route,
    /// What it says to each question.
    pub routing: Option<fn(&Self, &RouteQuery) -> Route>,
    /// The interface that packets come in by.
    pub ingress: u32,
    /// What the flow clock says.
    pub clock: u32,
    /// Whether packets are explained only.
    pub explains: bool,
}

impl InMemory {
    /// Empty tables of that capacity, for flows hashed under that seed.
    pub fn new(capacity: &Capacity, seed: u64) -> Self {
        let lines = capacity.service_lines() as usize;
        Self {
            control: Control::default(),
            seed,
            service_bits: capacity.service_bits(),
            services4: vec![bytemuck::Zeroable::zeroed(); lines],
            services6: vec![bytemuck::Zeroable::zeroed(); lines],
            slots: vec![bytemuck::Zeroable::zeroed(); capacity.slot_lines() as usize],
            previous: vec![bytemuck::Zeroable::zeroed(); capacity.slot_lines() as usize],
            flows: vec![SharedLine::default(); capacity.flow_lines() as usize],
            tracking: vec![Cell::default(); capacity.numbers() as usize],
            flow_budget: capacity.flow_budget(),
            targets: vec![Target::default(); capacity.target_cells() as usize],
            tags: vec![Tags::NONE; capacity.target_cells() as usize],
            options: vec![ServiceOptions::default(); capacity.numbers() as usize],
            sources: BTreeSet::new(),
            quic: vec![QuicSet::default(); capacity.quic_sets() as usize],
            servers: vec![ServerLine::default(); capacity.server_lines() as usize],
            pools: vec![bytemuck::Zeroable::zeroed(); capacity.numbers() as usize],
            cells: vec![CellRecord::default(); capacity.target_cells() as usize],
            fragments: RefCell::default(),
            translations: RefCell::default(),
            translations_limit: capacity.translations() as usize,
            source_pools: [SourcePool::default(); 2],
            nat_sources: Vec::new(),
            answers: Cell::new(u32::MAX),
            uppers: BTreeMap::new(),
            route: Route::None,
            routing: None,
            ingress: 1,
            clock: 0,
            explains: false,
        }
    }
}

/// A map, for tests that damage one.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Control,
    Services4,
    Services6,
    Slots,
    Previous,
    Targets,
    Options,
    Quic,
    Servers,
    Tags,
    Pools,
    Cells,
}

#[cfg(test)]
impl Part {
    pub(super) const ALL: &[Self] = &[
        Self::Control,
        Self::Services4,
        Self::Services6,
        Self::Slots,
        Self::Previous,
        Self::Targets,
        Self::Tags,
        Self::Options,
        Self::Quic,
        Self::Servers,
        Self::Pools,
        Self::Cells,
    ];
}

#[cfg(test)]
impl InMemory {
    /// Changes one byte of a map, if possible one of those that are not 0.
    pub(super) fn damage(&mut self, part: Part, at: usize, byte: u8) {
        let bytes: &mut [u8] = match part {
            Part::Control => bytemuck::bytes_of_mut(&mut self.control),
            Part::Services4 => bytemuck::cast_slice_mut(&mut self.services4),
            Part::Services6 => bytemuck::cast_slice_mut(&mut self.services6),
            Part::Slots => bytemuck::cast_slice_mut(&mut self.slots),
            Part::Previous => bytemuck::cast_slice_mut(&mut self.previous),
            Part::Targets => bytemuck::cast_slice_mut(&mut self.targets),
            Part::Tags => bytemuck::cast_slice_mut(&mut self.tags),
            Part::Options => bytemuck::cast_slice_mut(&mut self.options),
            Part::Quic => bytemuck::cast_slice_mut(&mut self.quic),
            Part::Servers => bytemuck::cast_slice_mut(&mut self.servers),
            Part::Pools => bytemuck::cast_slice_mut(&mut self.pools),
            Part::Cells => bytemuck::cast_slice_mut(&mut self.cells),
        };
        let used: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] != 0).collect();
        let index = if used.is_empty() {
            at % bytes.len()
        } else {
            used[at % used.len()]
        };
        bytes[index] = byte;
    }
}

impl InMemory {
    /// A line of map `PREVIOUS`.
    pub fn previous(&self, line: u32) -> Option<&SlotLine> {
        self.previous.get(line as usize)
    }
}

impl Memory for InMemory {
    fn wait_for_packets(&mut self) {}

    fn write_pool(&mut self, number: u16, record: &PoolRecord) {
        self.pools[usize::from(number)] = *record;
    }

    fn write_cell(&mut self, index: u32, record: &CellRecord) {
        self.cells[index as usize] = *record;
    }

    fn write_target(&mut self, index: u32, target: &Target) {
        self.targets[index as usize] = *target;
    }

    fn write_tags(&mut self, index: u32, tags: Tags) {
        self.tags[index as usize] = tags;
    }

    fn write_options(&mut self, number: u16, options: &ServiceOptions) {
        self.options[usize::from(number)] = *options;
    }

    fn write_servers(&mut self, line: u32, lines: &[ServerLine]) {
        self.servers[line as usize..][..lines.len()].copy_from_slice(lines);
    }

    fn write_quic(&mut self, index: u32, set: &QuicSet) {
        self.quic[index as usize] = *set;
    }

    fn write_sources(&mut self, entries: &[SourceEntry]) {
        self.sources.extend(entries);
    }

    fn remove_sources(&mut self, entries: &[SourceEntry]) {
        for entry in entries {
            self.sources.remove(entry);
        }
    }

    fn write_macs(&mut self, index: u32, target: &Target) {
        let Target {
            macs_head, macs_tail, ..
        } = *target;
        let cell = &mut self.targets[index as usize];
        (cell.macs_head, cell.macs_tail) = (macs_head, macs_tail);
    }

    fn write_previous(&mut self, line: u32, slots: &[Slot]) {
        let lines = &mut self.previous[line as usize..][..slots.len() / SLOTS_PER_LINE as usize];
        for (line, slots) in lines.iter_mut().zip(slots.chunks_exact(SLOTS_PER_LINE as usize)) {
            line.0.copy_from_slice(slots);
        }
    }

    fn visit_flows(&mut self, visit: &mut dyn FnMut(FlowKey, FlowValue) -> Option<FlowValue>) {
        for line in &self.flows {
            line.visit(visit);
        }
    }

    fn insert_flow(&mut self, key: FlowKey, value: FlowValue) -> bool {
        insert_flow(&self.flows, key, value)
    }

    fn write_slots(&mut self, line: u32, slots: &[Slot]) {
        let lines = &mut self.slots[line as usize..][..slots.len() / SLOTS_PER_LINE as usize];
        for (line, slots) in lines.iter_mut().zip(slots.chunks_exact(SLOTS_PER_LINE as usize)) {
            line.0.copy_from_slice(slots);
        }
    }

    fn write_services4(&mut self, line: u32, lines: &[ServiceLine4]) {
        self.services4[line as usize..][..lines.len()].copy_from_slice(lines);
    }

    fn write_services6(&mut self, line: u32, lines: &[ServiceLine6]) {
        self.services6[line as usize..][..lines.len()].copy_from_slice(lines);
    }

    fn publish(&mut self, control: &Control) {
        self.control = *control;
    }
}

impl ReadBack for InMemory {
    fn read_control(&self) -> Control {
        self.control
    }

    fn read_services4(&self, line: u32) -> ServiceLine4 {
        self.services4[line as usize]
    }

    fn read_services6(&self, line: u32) -> ServiceLine6 {
        self.services6[line as usize]
    }

    fn read_slots(&self, line: u32) -> SlotLine {
        self.slots[line as usize]
    }

    fn read_previous(&self, line: u32) -> SlotLine {
        self.previous[line as usize]
    }

    fn read_target(&self, index: u32) -> Target {
        self.targets[index as usize]
    }

    fn read_tags(&self, index: u32) -> Tags {
        self.tags[index as usize]
    }

    fn read_pool(&self, number: u32) -> PoolRecord {
        self.pools[number as usize]
    }

    fn read_cell(&self, index: u32) -> CellRecord {
        self.cells[index as usize]
    }

    fn read_options(&self, number: u32) -> ServiceOptions {
        self.options[number as usize]
    }

    fn read_quic(&self, index: u32) -> QuicSet {
        self.quic[index as usize]
    }

    fn read_servers(&self, line: u32) -> ServerLine {
        self.servers[line as usize]
    }

    fn read_sources(&self) -> Vec<SourceEntry> {
        self.sources.iter().copied().collect()
    }
}

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

    fn look_up4(&self, key: &Key4) -> Option<Service> {
        pipeline::look_up4(self, key)
    }

    fn look_up6(&self, key: &Key6) -> Option<Service> {
        pipeline::look_up6(self, key)
    }

    fn lengths(&self, v6: bool) -> Lengths {
        self.control.lengths[usize::from(v6)]
    }

    fn slots(&self, line: u32) -> Option<&SlotLine> {
        self.slots.get(line as usize)
    }

    fn fragments(&self, key: &FragmentKey, record: &mut FragmentRecord) -> bool {
        let known = self.fragments.borrow().get(key).copied();
        *record = known.unwrap_or(*record);
        known.is_some()
    }

    fn note_fragments(&self, key: &FragmentKey, record: &FragmentRecord) {
        self.fragments.borrow_mut().insert(*key, *record);
    }

    fn forget_fragments(&self, key: &FragmentKey) {
        self.fragments.borrow_mut().remove(key);
    }

    fn translation<R>(&self, key: &Ends, visit: impl FnOnce(&mut Translation) -> R) -> Option<R> {
        self.translations.borrow_mut().get_mut(key).map(visit)
    }

    fn claim(&self, key: &Ends, entry: &Translation) -> Claim {
        let mut entries = self.translations.borrow_mut();
        if entries.contains_key(key) {
            return Claim::Taken;
        }
        if entries.len() >= self.translations_limit {
            return Claim::Full;
        }
        entries.insert(*key, *entry);
        Claim::Made
    }

    fn forget_translation(&self, key: &Ends) {
        self.translations.borrow_mut().remove(key);
    }

    fn source_pool(&self, v6: bool) -> SourcePool {
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

    fn place(&self, query: &Query) -> Placed {
        flows::place(self, query)
    }

    fn explains(&self) -> bool {
        self.explains
    }

    fn target(&self, index: u32) -> Option<&Target> {
        self.targets.get(index as usize)
    }

    fn options(&self, number: u32) -> Option<&ServiceOptions> {
        self.options.get(number as usize)
    }

    fn tags(&self, index: u32) -> Option<&Tags> {
        self.tags.get(index as usize)
    }

    fn access(&self, client: &SourceKey) -> u32 {
        let holding = self
            .sources
            .iter()
            .filter(|entry| entry.key.agrees(client, entry.bits));
        holding
            .max_by_key(|entry| entry.bits)
            .map_or(0, |entry| entry.access)
    }

    fn quic(&self, index: u32) -> Option<&QuicSet> {
        self.quic.get(index as usize)
    }

    fn server(&self, table: &ServerTable, id: &ServerId) -> Option<u32> {
        table.look_up(id, |line| self.servers.get(line as usize))
    }

    fn count(&self, number: u32, event: Event) {
        FlowTable::count(self, number, event);
    }

    fn upper(&self, interface: u32) -> Option<Upper> {
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

    fn known(&self, query: &Query, value: FlowValue, entry: u32) -> Placed {
        flows::known(self, query, value, entry)
    }

    fn better(&self, best: u32, place: u32, value: FlowValue, clock: u32) -> u32 {
        flows::better(best, place, value, clock)
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
    /// What the flow table did for the pool of that number.
    pub fn tracking(&self, number: u32) -> Tracking {
        self.tracking[number as usize].get()
    }

    /// The flow table.
    pub fn flow_lines(&self) -> Vec<FlowLine> {
        self.flows.iter().map(SharedLine::read).collect()
    }

    fn change_tracking(&self, service: u32, change: impl FnOnce(&mut Tracking)) {
        let cell = &self.tracking[service as usize & 0xffff];
        let mut tracking = cell.get();
        change(&mut tracking);
        cell.set(tracking);
    }
}
