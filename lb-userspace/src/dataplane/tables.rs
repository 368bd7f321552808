//! The kernel's tables as a [`Memory`] for plans.

use std::sync::atomic::Ordering;

use anyhow::Result;
use aya::maps::{Array, MapData};
use lb_common::{
    abi::{
        CellEntry, Control, FlowKey, FlowLine, FlowValue, Meta, OptionsEntry, PoolEntry, QuicSetEntry,
        SLOTS_PER_LINE, ServerLine, ServiceLine4, ServiceLine6, Slot, SlotLine, TagsEntry, TargetEntry, map,
    },
    flow::SharedLine,
};

use super::{Dataplane, mapped::Mapped, sources::Sources};
use lb_core::plan::{Memory, ReadBack, SourceEntry, Write, insert_flow};

/// The tables: mmap-able maps, and the program's control words.
pub struct MappedTables {
    control: Array<MapData, PodControl>,
    published: Control,
    services4: Mapped<ServiceLine4>,
    services6: Mapped<ServiceLine6>,
    slots: Mapped<SlotLine>,
    previous: Mapped<SlotLine>,
    flows: Mapped<FlowLine>,
    targets: Mapped<TargetEntry>,
    tags: Mapped<TagsEntry>,
    pools: Mapped<PoolEntry>,
    cells: Mapped<CellEntry>,
    options: Mapped<OptionsEntry>,
    quic: Mapped<QuicSetEntry>,
    servers: Mapped<ServerLine>,
    sources: Sources,
}

impl MappedTables {
    pub(super) fn new(dataplane: &Dataplane) -> Result<Self> {
        fn mapped<T: bytemuck::Pod>(dataplane: &Dataplane, name: &str) -> Result<Mapped<T>> {
            Mapped::new(dataplane.array(name)?, name)
        }
        let control = dataplane.control()?;
        let PodControl(published) = control.get(&0, 0)?;
        Ok(Self {
            control,
            published,
            services4: mapped(dataplane, map::SERVICES4)?,
            services6: mapped(dataplane, map::SERVICES6)?,
            slots: mapped(dataplane, map::SLOTS)?,
            previous: mapped(dataplane, map::PREVIOUS)?,
            flows: mapped(dataplane, map::FLOWS)?,
            targets: mapped(dataplane, map::TARGETS)?,
            tags: mapped(dataplane, map::TAGS)?,
            pools: mapped(dataplane, map::POOLS)?,
            cells: mapped(dataplane, map::CELLS)?,
            options: mapped(dataplane, map::OPTIONS)?,
            quic: mapped(dataplane, map::QUIC)?,
            servers: mapped(dataplane, map::SERVERS)?,
            sources: Sources::new(dataplane)?,
        })
    }
}

impl Memory for MappedTables {
    fn wait_for_packets(&mut self) {
        wait_for_readers();
    }

    fn write_pool(&mut self, number: u16, record: &PoolEntry) {
        self.pools.store(usize::from(number), record);
    }

    fn write_cell(&mut self, index: u32, record: &CellEntry) {
        // The serial is the last word: who finds it not 0 finds the rest complete.
        if let Some(serial) = self.cells.words(index as usize).last() {
            serial.store(0, Ordering::Release);
        }
        self.cells.store(index as usize, record);
    }

    fn write_target(&mut self, index: u32, target: &TargetEntry) {
        self.targets.store(index as usize, target);
    }

    fn write_tags(&mut self, index: u32, tags: TagsEntry) {
        self.tags.store(index as usize, &tags);
    }

    fn write_servers(&mut self, line: u32, lines: &[ServerLine]) {
        for (i, value) in lines.iter().enumerate() {
            self.servers.store(line as usize + i, value);
        }
    }

    fn write_quic(&mut self, index: u32, set: &QuicSetEntry) {
        self.quic.store(index as usize, set);
    }

    fn write_options(&mut self, number: u16, options: &OptionsEntry) {
        self.options.store(usize::from(number), options);
    }

    fn write_sources(&mut self, entries: &[SourceEntry]) {
        if let Err(error) = self.sources.insert(entries) {
            log::error!("clients are denied that should not be: {error:#}");
        }
    }

    fn remove_sources(&mut self, entries: &[SourceEntry]) {
        self.sources.remove(entries);
    }

    fn write_macs(&mut self, index: u32, target: &TargetEntry) {
        // Word 0 is the next hop's MAC and two bytes of ours, word 1 the rest of ours beside fields that stay.
        let words: &[u64] = bytemuck::cast_slice(std::slice::from_ref(target));
        for (word, cell) in words.iter().zip(self.targets.words(index as usize)).take(2) {
            cell.store(*word, Ordering::Release);
        }
    }

    fn write_previous(&mut self, line: u32, slots: &[Slot]) {
        store_slots(&self.previous, line, slots);
    }

    fn write_slots(&mut self, line: u32, slots: &[Slot]) {
        store_slots(&self.slots, line, slots);
    }

    fn visit_flows(&mut self, visit: &mut dyn FnMut(FlowKey, FlowValue) -> Option<FlowValue>) {
        for line in self.flows.shared::<SharedLine>() {
            line.visit(visit);
        }
    }

    fn insert_flow(&mut self, key: FlowKey, value: FlowValue) -> bool {
        insert_flow(self.flows.shared(), key, value)
    }

    fn write_services4(&mut self, line: u32, lines: &[ServiceLine4]) {
        for (i, value) in lines.iter().enumerate() {
            self.services4.store(line as usize + i, value);
        }
    }

    fn write_services6(&mut self, line: u32, lines: &[ServiceLine6]) {
        for (i, value) in lines.iter().enumerate() {
            self.services6.store(line as usize + i, value);
        }
    }

    fn publish(&mut self, control: &Control) {
        let control = Control {
            routes: self.published.routes,
            ..*control
        };
        for step in control.steps_from(&self.published) {
            self.write_control(step);
        }
    }
}

/// Stores those slots of a table that differ: a line that nobody writes stays in the other CPUs' caches.
fn store_slots(map: &Mapped<SlotLine>, line: u32, slots: &[Slot]) {
    let cells = map.halves(line as usize, slots.len() / SLOTS_PER_LINE as usize);
    for (slot, cell) in slots.iter().zip(cells) {
        if cell.load(Ordering::Relaxed) != slot.0 {
            cell.store(slot.0, Ordering::Release);
        }
    }
}

impl ReadBack for MappedTables {
    fn read_control(&self) -> Control {
        self.published
    }

    fn read_services4(&self, line: u32) -> ServiceLine4 {
        self.services4.load(line as usize)
    }

    fn read_services6(&self, line: u32) -> ServiceLine6 {
        self.services6.load(line as usize)
    }

    fn read_slots(&self, line: u32) -> SlotLine {
        self.slots.load(line as usize)
    }

    fn read_previous(&self, line: u32) -> SlotLine {
        self.previous.load(line as usize)
    }

    fn read_target(&self, index: u32) -> TargetEntry {
        self.targets.load(index as usize)
    }

    fn read_tags(&self, index: u32) -> TagsEntry {
        self.tags.load(index as usize)
    }

    fn read_pool(&self, number: u32) -> PoolEntry {
        self.pools.load(number as usize)
    }

    fn read_cell(&self, index: u32) -> CellEntry {
        self.cells.load(index as usize)
    }

    fn read_quic(&self, index: u32) -> QuicSetEntry {
        self.quic.load(index as usize)
    }

    fn read_servers(&self, line: u32) -> ServerLine {
        self.servers.load(line as usize)
    }

    fn read_options(&self, number: u32) -> OptionsEntry {
        self.options.load(number as usize)
    }

    fn read_sources(&self) -> Vec<SourceEntry> {
        self.sources.entries()
    }
}

impl MappedTables {
    /// Carries out writes of lists of clients, which are the only ones that the kernel may have no memory for.
    ///
    /// # Errors
    /// When it has none; nothing has changed then.
    pub fn write_lists(&mut self, writes: &[Write]) -> Result<()> {
        for (done, write) in writes.iter().enumerate() {
            match write {
                Write::Sources(entries) => {
                    if let Err(error) = self.sources.insert(entries) {
                        for undone in &writes[..=done] {
                            if let Write::Sources(entries) = undone {
                                self.sources.remove_if_there(entries);
                            }
                        }
                        return Err(error);
                    }
                }
                Write::SourcesGone(entries) => self.sources.remove(entries),
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells the program that what it knows of the host's routes may be outdated.
    pub fn distrust_routes(&mut self) {
        let routes = self.published.routes.wrapping_add(1);
        self.write_control(Control {
            routes,
            ..self.published
        });
    }

    fn write_control(&mut self, control: Control) {
        // One entry of a map that this process has open: the kernel has no reason to refuse.
        if let Err(error) = self.control.set(0, PodControl(control), 0) {
            log::error!("the tables cannot be switched, the program goes on with the old ones: {error}");
            return;
        }
        self.published = control;
    }
}

/// A [`Control`] that aya can write.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct PodControl(Control);

// SAFETY: `Control` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodControl {}

/// A [`Meta`] that aya can read and write.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct PodMeta(pub(super) Meta);

// SAFETY: `Meta` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodMeta {}

/// Waits for an RCU grace period: packets are processed in RCU read-side sections, so those that were on their way
/// when this was called are done when it returns. (membarrier(2): `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu`.)
pub(super) fn wait_for_readers() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // Kernels with nohz_full CPUs refuse. A packet takes microseconds; this is ten thousand times as long.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
