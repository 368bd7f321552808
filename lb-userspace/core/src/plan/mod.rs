//! From what the operator wants and what is alive to writes of the dataplane's tables.
//!
//! [`pools`] says what the tables should mean, [`Layout::plan`] lays that out and yields the writes that lead there from
//! the present layout, [`apply`] carries them out on a [`Memory`]. All but the last step is pure.
//!
//! Invariant: the writes of one plan, in order, never show a packet half a change. Cells that packets can reach are
//! not changed in a way that could be seen torn; new cells are filled before a slot or a service leads to them; and
//! what was given up is not used again before every packet that saw it is gone.

mod adopt;
mod capacity;
mod extents;
mod history;
mod in_memory;
mod key_entries;
mod keys;
mod layout;
mod macs;
mod memory;
mod options;
mod placed_pool;
mod pool;
mod ports;
mod recall;
mod record;
mod routing;
mod service_flags;
mod service_table;
mod slots;
mod snapshot;
mod source_pools;
mod sources;
mod sweep;
mod target;
mod transition;
mod translations;
mod write;

pub use adopt::{AdoptError, Damage, ReadBack};
pub use capacity::{Capacity, CapacityError};
pub use extents::Extents;
pub use in_memory::InMemory;
pub use layout::{BackendRef, Layout};
pub use macs::MacTable;
pub use memory::{Memory, apply, insert_flow, take_lists};
pub use placed_pool::PoolView;
pub use pool::{
    Availability, BackendState, Observed, Pool, PoolKey, PoolMember, PoolOrigin, backend_state, pools, serves,
};
pub use service_table::{FamilyTable, TableError};
pub use slots::FlowFate;
pub use snapshot::{CellSnapshot, LayoutSnapshot, PoolSnapshot, RestoreError};
pub use source_pools::{SourceTables, SourceWrite, source_pools};
pub use sources::SourceEntry;
pub use sweep::{FlowTime, Sweep};
pub use target::{NextHop, TargetCell, TunnelSources};
pub use transition::Plan;
pub use translations::{Cause, EndedFlow, Moved, Translated, TranslationTable, Usage};
pub use write::Write;

#[cfg(test)]
mod tests;
