//! How the slots of each pool came to be, kept beside them.
//!
//! Invariant: a pool's history replays to the owners in use. It is taken on with every plan that changes a pool, and
//! begins anew where it is not known.

use std::{collections::HashMap, sync::Arc};

use super::{
    layout::Layout,
    placed_pool::PlacedPool,
    snapshot::{LayoutSnapshot, RestoreError},
};
use crate::desired::{BackendId, Scheduler};
use crate::schedule::{History, Member};

/// The history of the slots of `now`, which take the place of those that are `present`.
pub(super) fn after(present: Option<&PlacedPool>, now: &PlacedPool, generation: u64) -> Option<Arc<History>> {
    let pool = &now.pool;
    if pool.service.scheduler != Scheduler::Consistent {
        return None;
    }
    let members: Vec<Member> = pool.takers().collect();
    let owners = pool.owners.as_ref().map(|owners| &owners[..]);
    let known = present.and_then(|placed| placed.history.as_ref());
    // Who gets slots back depends on the clock, which no history tells.
    let goes_home = present.is_some_and(|present| !present.slots.lent.is_empty());
    let history = match (known.filter(|known| known.generation() <= generation), owners) {
        (Some(known), owners) => {
            let mut history = History::clone(known);
            history.push(generation, pool.slots, &members, owners);
            match owners.filter(|_| goes_home && history != **known) {
                Some(owners) => History::written_out(generation, &members, owners),
                None => history,
            }
        }
        (None, Some(owners)) if goes_home || present.is_some_and(|placed| placed.pool.owners.is_some()) => {
            History::written_out(generation, &members, owners)
        }
        (None, _) => History::canonical(generation, pool.slots, &members),
    };
    Some(Arc::new(history))
}

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
    /// Takes the histories of those pools from `snapshot` whose slots have been the same since; to be called before
    /// the first plan after [`Layout::adopt`].
    pub fn recall_histories(&mut self, snapshot: &LayoutSnapshot) {
        let pools: HashMap<_, _> = snapshot.pools.iter().map(|pool| (pool.key(), pool)).collect();
        for (key, placed) in &mut self.placed {
            let Some(pool) = pools.get(key).filter(|pool| pool.history.is_some()) else {
                continue;
            };
            if pool.owners().is_some_and(|owners| owners == placed.slot_owners()) {
                Arc::make_mut(placed).history = pool.history.clone().map(Arc::new);
            }
        }
    }
}

impl PlacedPool {
    /// Who owns each slot.
    pub(super) fn slot_owners(&self) -> Vec<Option<BackendId>> {
        let members = &self.pool.members;
        match &self.pool.owners {
            Some(owners) => owners
                .iter()
                .map(|owner| members.get(usize::from(*owner)).map(|member| member.id))
                .collect(),
            None => vec![None; self.pool.slots as usize],
        }
    }
}

impl LayoutSnapshot {
    /// Checks that every history leads to the slots beside it. It takes up to 25 ms for each.
    ///
    /// # Errors
    /// Which does not.
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
