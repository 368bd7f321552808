//! The past of slots, in pools that were read back.

use std::{collections::HashMap, sync::Arc};

use super::snapshot::{LayoutSnapshot, RestoreError};
use crate::desired::BackendId;
use crate::plan::layout::{Layout, placed_pool::PlacedPool};
use crate::schedule::History;

/// Who owns each slot that a history leads to.
fn replayed(history: &History) -> Vec<Option<BackendId>> {
    match history.replay() {
        Some((ids, owners)) => owners
            .iter()
            .map(|owner| ids.get(usize::from(*owner)).copied())
            .collect(),
        None => vec![None; history.slots() as usize],
    }
}

impl Layout {
    /// Takes the histories of pools from `snapshot` whose slots are still those of the snapshot. To be called before the
    /// first plan after [`Layout::adopt`].
    pub fn recall_histories(&mut self, snapshot: &LayoutSnapshot) {
        let pools: HashMap<_, _> = snapshot.pools.iter().map(|pool| (pool.key(), pool)).collect();
        self.placed_pools.update(|placed| {
            let pool = pools
                .get(&placed.pool.key)
                .filter(|pool| pool.history.is_some())?;
            let same = pool.owners().is_some_and(|owners| owners == slot_owners(placed));
            same.then(|| PlacedPool {
                history: pool.history.clone().map(Arc::new),
                ..placed.clone()
            })
        });
    }
}

/// Who owns each slot of a pool.
fn slot_owners(placed: &PlacedPool) -> Vec<Option<BackendId>> {
    let members = &placed.pool.members;
    match &placed.pool.owners {
        Some(owners) => owners
            .iter()
            .map(|owner| members.get(usize::from(*owner)).map(|member| member.id))
            .collect(),
        None => vec![None; placed.pool.slots as usize],
    }
}

impl LayoutSnapshot {
    /// Checks that every history leads to the slots beside it. The check takes up to 25 ms for each pool.
    ///
    /// # Errors
    /// When the history of a pool does not.
    pub fn check_histories(&self) -> Result<(), RestoreError> {
        for pool in &self.pools {
            let Some(history) = &pool.history else { continue };
            if pool.owners().as_ref() != Some(&replayed(history)) {
                return Err(pool.wrong("its history leads to other slots than it has"));
            }
        }
        Ok(())
    }
}
