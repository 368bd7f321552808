//! What the tables should mean: pools, and who owns each of their slots.
//!
//! [`pool::Pool`] is one set of backends and the VIPs that lead to it, [`owners`] tells which member owns each slot, and
//! [`slots`] tells what a change of owners does to the slots as packets see them.
//!
//! Invariant: nothing here knows where a pool lies. A pool is a function of the desired state, the observed state and
//! the owners that its slots have now.

pub(super) mod backend_state;
pub(super) mod owners;
pub(super) mod pool;
pub(super) mod slots;

pub use backend_state::{Availability, BackendState, Observed, backend_state, serves};
pub use owners::pools;
pub use pool::{FlowFate, Pool, PoolKey, PoolMember, PoolOrigin};
