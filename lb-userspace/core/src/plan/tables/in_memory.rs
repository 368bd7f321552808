//! Tables in plain memory, for tests and for the host build of the pipeline.

mod read;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
};

use lb_common::{
    abi::{
        CellEntry, Control, DeviceEntry, FlowEnds, FlowKey, FlowLine, FlowValue, FragmentEntry, FragmentKey,
        NatEntry, OptionsEntry, PoolEntry, QuicSetEntry, SLOTS_PER_LINE, ServerLine, ServiceLine4,
        ServiceLine6, Slot, SlotLine, SnatPoolEntry, TagsEntry, TargetEntry, TrackingCounters,
    },
    flow::SharedLine,
    pipeline::{Route, RouteQuery},
};

use super::{
    macs::MacTable,
    memory::{Memory, insert_flow},
    read_back::ReadBack,
    sources::SourceEntry,
};
use crate::plan::Capacity;

/// Tables in plain memory, for the host build of the pipeline.
#[derive(Clone, Debug)]
pub struct InMemory {
    pub(in crate::plan) control: Control,
    seed: u64,
    service_bits: u32,
    services4: Vec<ServiceLine4>,
    services6: Vec<ServiceLine6>,
    slots: Vec<SlotLine>,
    pub(in crate::plan) previous: Vec<SlotLine>,
    flows: Vec<SharedLine>,
    tracking: Vec<Cell<TrackingCounters>>,
    flow_budget: u32,
    targets: Vec<TargetEntry>,
    tags: Vec<TagsEntry>,
    options: Vec<OptionsEntry>,
    sources: BTreeSet<SourceEntry>,
    quic: Vec<QuicSetEntry>,
    servers: Vec<ServerLine>,
    pools: Vec<PoolEntry>,
    cells: Vec<CellEntry>,
    fragments: RefCell<HashMap<FragmentKey, FragmentEntry>>,
    /// Flows through `fullnat`.
    pub translations: RefCell<HashMap<FlowEnds, NatEntry>>,
    translations_limit: usize,
    /// What `fullnat` flows are given places of: IPv4, IPv6.
    pub source_pools: [SnatPoolEntry; 2],
    /// Addresses of these pools.
    pub nat_sources: Vec<[u64; 2]>,
    /// Answers that may still be made.
    pub answers: Cell<u32>,
    /// MACs that frames to this host bear.
    pub macs: MacTable,
    /// What is known of interfaces, by index.
    pub uppers: BTreeMap<u32, DeviceEntry>,
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
            targets: vec![TargetEntry::default(); capacity.target_cells() as usize],
            tags: vec![TagsEntry::NONE; capacity.target_cells() as usize],
            options: vec![OptionsEntry::default(); capacity.numbers() as usize],
            sources: BTreeSet::new(),
            quic: vec![QuicSetEntry::default(); capacity.quic_sets() as usize],
            servers: vec![ServerLine::default(); capacity.server_lines() as usize],
            pools: vec![bytemuck::Zeroable::zeroed(); capacity.numbers() as usize],
            cells: vec![CellEntry::default(); capacity.target_cells() as usize],
            fragments: RefCell::default(),
            translations: RefCell::default(),
            translations_limit: capacity.translations() as usize,
            source_pools: [SnatPoolEntry::default(); 2],
            nat_sources: Vec::new(),
            answers: Cell::new(u32::MAX),
            macs: MacTable::default(),
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
pub(in crate::plan) enum Part {
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
    pub(in crate::plan) const ALL: &[Self] = &[
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
    pub(in crate::plan) fn damage(&mut self, part: Part, at: usize, byte: u8) {
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

    /// What the flow table did for the pool of that number.
    pub fn tracking(&self, number: u32) -> TrackingCounters {
        self.tracking[number as usize].get()
    }

    /// The flow table.
    pub fn flow_lines(&self) -> Vec<FlowLine> {
        self.flows.iter().map(SharedLine::read).collect()
    }
}

impl Memory for InMemory {
    fn wait_for_packets(&mut self) {}

    fn write_pool(&mut self, number: u16, record: &PoolEntry) {
        self.pools[usize::from(number)] = *record;
    }

    fn write_cell(&mut self, index: u32, record: &CellEntry) {
        self.cells[index as usize] = *record;
    }

    fn write_target(&mut self, index: u32, target: &TargetEntry) {
        self.targets[index as usize] = *target;
    }

    fn write_tags(&mut self, index: u32, tags: TagsEntry) {
        self.tags[index as usize] = tags;
    }

    fn write_options(&mut self, number: u16, options: &OptionsEntry) {
        self.options[usize::from(number)] = *options;
    }

    fn write_servers(&mut self, line: u32, lines: &[ServerLine]) {
        self.servers[line as usize..][..lines.len()].copy_from_slice(lines);
    }

    fn write_quic(&mut self, index: u32, set: &QuicSetEntry) {
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

    fn write_macs(&mut self, index: u32, target: &TargetEntry) {
        let TargetEntry {
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

    fn read_target(&self, index: u32) -> TargetEntry {
        self.targets[index as usize]
    }

    fn read_tags(&self, index: u32) -> TagsEntry {
        self.tags[index as usize]
    }

    fn read_pool(&self, number: u32) -> PoolEntry {
        self.pools[number as usize]
    }

    fn read_cell(&self, index: u32) -> CellEntry {
        self.cells[index as usize]
    }

    fn read_options(&self, number: u32) -> OptionsEntry {
        self.options[number as usize]
    }

    fn read_quic(&self, index: u32) -> QuicSetEntry {
        self.quic[index as usize]
    }

    fn read_servers(&self, line: u32) -> ServerLine {
        self.servers[line as usize]
    }

    fn read_sources(&self) -> Vec<SourceEntry> {
        self.sources.iter().copied().collect()
    }
}
