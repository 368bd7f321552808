//! Reading tables back, from the kernel's maps or from a snapshot in a file.
//!
//! [`adopt`] takes over the tables that an agent left, [`snapshot`] and [`restore`] make tables again that the kernel has
//! lost, and [`histories`] gives pools the past of their slots back.
//!
//! Invariant: a layout that was read back explains all that packets can reach, so that an ordinary plan leads from there
//! to the desired state. What no agent can have left is refused, not repaired.

mod adopt;
mod damage;
mod histories;
mod key_entries;
mod recovered_pool;
mod restore;
mod snapshot;

pub use damage::{AdoptError, Damage};
pub use snapshot::{CellSnapshot, LayoutSnapshot, PoolSnapshot, RestoreError};
