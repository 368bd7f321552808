//! What a listing shows of a pool in its cells.

use std::collections::HashMap;

use super::placed_pool::PlacedPool;
use crate::desired::BackendId;

/// A pool in its cells, for listings.
#[derive(Clone, Copy, Debug)]
pub struct PoolView<'a>(pub(super) &'a PlacedPool);

impl PoolView<'_> {
    /// Size of the slot table.
    pub fn slots(&self) -> usize {
        self.0.slots.len()
    }

    /// How many slots have changed their owner of late, so that their packets ask the flow table.
    pub fn migrating_slots(&self) -> usize {
        self.0.slots.migrating.len()
    }

    /// The number by which the pool's counters are kept.
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// How many slots each backend of the pool owns now.
    pub fn owned(&self) -> HashMap<BackendId, usize> {
        let mut by_cell = vec![0; self.0.cells.len()];
        for owner in self.0.slots.current.iter().filter_map(|slot| slot.owner()) {
            by_cell[owner as usize] += 1;
        }
        self.0
            .owned()
            .map(|(local, id, _)| (id, by_cell[local as usize]))
            .collect()
    }
}
