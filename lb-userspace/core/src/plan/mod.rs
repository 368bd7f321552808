//! From the desired and the observed state to writes of the dataplane's tables.
//!
//! [`pools()`] says what the tables should mean. [`Layout::plan`] lays that out, and yields the writes that lead there from
//! the present layout. [`apply`] carries the writes out on a [`Memory`]. All but the last step is pure.
//!
//! The folders build on one another in this order, and no folder uses a later one:
//!
//! - `tables`: the maps, what they hold, and how they are written and read back;
//! - `pools`: what the tables should mean;
//! - `layout`: where pools lie, and how one layout becomes the next;
//! - `recover`: reading tables back;
//! - `collect`: what ends in time.
//!
//! Invariant: the writes of one plan, in order, never show a packet half a change. Cells that packets can reach do not
//! change in a way that a packet could see torn. New cells are filled before a slot or a service leads to them. What was
//! given up is not used again before every packet that saw it is gone.

mod collect;
mod layout;
mod pools;
mod recover;
mod tables;

pub use collect::{Cause, EndedFlow, FlowTime, Moved, Sweep, Translated, TranslationTable, Usage};
pub use layout::{BackendRef, CapacityError, Extents, Layout, Plan, PoolView, PoolsDelta};
pub use pools::{
    Availability, BackendState, FlowFate, Observed, Pool, PoolKey, PoolMember, PoolOrigin, backend_state,
    pools, serves,
};
pub use recover::{AdoptError, CellSnapshot, Damage, LayoutSnapshot, PoolSnapshot, RestoreError};
pub use tables::{
    Capacity, FamilyTable, InMemory, MacTable, Memory, NextHop, ReadBack, SourceEntry, SourceTables,
    SourceWrite, TableError, TargetCell, TunnelSources, Write, apply, insert_flow, source_pools, take_lists,
};

#[cfg(test)]
mod tests;
