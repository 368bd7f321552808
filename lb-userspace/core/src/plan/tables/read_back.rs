//! How tables are read back.

use lb_common::abi::{
    CellEntry, Control, OptionsEntry, PoolEntry, QuicSetEntry, ServerLine, ServiceLine4, ServiceLine6,
    SlotLine, TagsEntry, TargetEntry,
};

use super::{memory::Memory, sources::SourceEntry, target::TargetCell};

/// Tables that can be read back. Indexes are within the capacity that the tables were made for.
pub trait ReadBack: Memory {
    /// The control words.
    fn read_control(&self) -> Control;
    /// A line of the IPv4 service table.
    fn read_services4(&self, line: u32) -> ServiceLine4;
    /// A line of the IPv6 service table.
    fn read_services6(&self, line: u32) -> ServiceLine6;
    /// A line of slots.
    fn read_slots(&self, line: u32) -> SlotLine;
    /// A line of previous owners.
    fn read_previous(&self, line: u32) -> SlotLine;
    /// A target.
    fn read_target(&self, index: u32) -> TargetEntry;
    /// The tags of a target.
    fn read_tags(&self, index: u32) -> TagsEntry;
    /// What a number stands for.
    fn read_pool(&self, number: u32) -> PoolEntry;
    /// Which backend a target belongs to.
    fn read_cell(&self, index: u32) -> CellEntry;
    /// The options of a service.
    fn read_options(&self, number: u32) -> OptionsEntry;
    /// A set of QUIC configurations.
    fn read_quic(&self, index: u32) -> QuicSetEntry;
    /// A line of server IDs.
    fn read_servers(&self, line: u32) -> ServerLine;
    /// All entries of all lists of clients.
    fn read_sources(&self) -> Vec<SourceEntry>;
}

impl TargetCell {
    /// The entry of that index.
    pub(in crate::plan) fn read(memory: &impl ReadBack, index: u32) -> Self {
        Self {
            target: memory.read_target(index),
            tags: memory.read_tags(index),
        }
    }
}
