//! The dataplane's maps: what each of them holds, how it is written, and how it is read back.
//!
//! [`mod@write`] lists the steps toward other content, [`memory`] carries them out on whatever holds the maps, [`read_back`]
//! reads the maps again, and [`in_memory`] holds them in plain memory. The other modules make the content of single maps.
//!
//! Invariant: nothing here knows where a pool lies, or that there are pools.

pub(super) mod capacity;
pub(super) mod in_memory;
pub(super) mod macs;
pub(super) mod memory;
pub(super) mod ports;
pub(super) mod read_back;
pub(super) mod server_ids;
pub(super) mod service_flags;
pub(super) mod service_table;
pub(super) mod source_pools;
pub(super) mod sources;
pub(super) mod target;
pub(super) mod write;

pub use capacity::Capacity;
pub use in_memory::InMemory;
pub use macs::MacTable;
pub use memory::{Memory, apply, insert_flow, take_lists};
pub use read_back::ReadBack;
pub use service_table::{FamilyTable, TableError};
pub use source_pools::{SourceTables, SourceWrite, source_pools};
pub use sources::SourceEntry;
pub use target::{NextHop, TargetCell, TunnelSources};
pub use write::Write;
