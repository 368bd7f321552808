//! How the slots of each pool came to be.
//!
//! Invariant: a pool's history replays to the owners in use. Every plan that changes a pool adds to its history, or
//! begins a new one where the history is not known.

use std::sync::Arc;

use super::placed_pool::PlacedPool;
use crate::desired::Scheduler;
use crate::schedule::{History, Member};

/// The history of the slots of `now`, which take the place of the `present` pool's slots.
pub(in crate::plan) fn after(
    present: Option<&PlacedPool>,
    now: &PlacedPool,
    generation: u64,
) -> Option<Arc<History>> {
    let pool = &now.pool;
    if pool.service.scheduler != Scheduler::Consistent {
        return None;
    }
    let members: Vec<Member> = pool.takers().collect();
    let owners = pool.owners.as_ref().map(|owners| &owners[..]);
    let known = present.and_then(|placed| placed.history.as_ref());
    // Which backends get slots back depends on the clock, which no history tells.
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
