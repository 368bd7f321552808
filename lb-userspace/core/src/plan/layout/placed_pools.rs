//! All pools in their cells, by name, and how much they hold together.

use std::sync::Arc;

use imbl::OrdMap;

use super::placed_pool::PlacedPool;
use crate::desired::ServiceName;
use crate::plan::pools::pool::{Pool, PoolKey};

/// Pools in their cells. A copy shares all that it has in common with the original.
#[derive(Clone, Debug, Default)]
pub(in crate::plan) struct PlacedPools {
    by_key: OrdMap<PoolKey, Arc<PlacedPool>>,
    services: usize,
    totals: Totals,
}

/// What pools hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) members: usize,
    pub(super) slots: usize,
    /// Slots that have changed their owner of late.
    pub(super) migrating: usize,
}

impl Totals {
    fn of(placed: &PlacedPool) -> Self {
        Self {
            members: placed.pool.members.len(),
            slots: placed.slots.len(),
            migrating: placed.slots.migrating.len(),
        }
    }

    fn add(&mut self, more: Self) {
        self.members += more.members;
        self.slots += more.slots;
        self.migrating += more.migrating;
    }

    fn subtract(&mut self, less: Self) {
        self.members -= less.members;
        self.slots -= less.slots;
        self.migrating -= less.migrating;
    }
}

/// Pools that are to mean something else from now on; all others stay as they are.
#[derive(Clone, Debug, Default)]
pub struct PoolsDelta {
    /// Pools that are new, or may mean something else than before. Each is there once.
    pub changed: Vec<Pool>,
    /// Pools that go.
    pub gone: Vec<PoolKey>,
}

impl PlacedPools {
    /// How many services have a pool.
    pub(super) fn services(&self) -> usize {
        self.services
    }

    /// What all pools hold together.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// The pool of that name.
    pub(in crate::plan) fn get(&self, key: &PoolKey) -> Option<&Arc<PlacedPool>> {
        self.by_key.get(key)
    }

    /// Whether there is a pool of that name.
    pub(in crate::plan) fn contains_key(&self, key: &PoolKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// The names, in order.
    pub(in crate::plan) fn keys(&self) -> impl Iterator<Item = &PoolKey> {
        self.by_key.keys()
    }

    /// The pools with their names, in order.
    #[cfg(test)]
    pub(in crate::plan) fn iter(&self) -> impl Iterator<Item = (&PoolKey, &Arc<PlacedPool>)> {
        self.by_key.iter()
    }

    /// The pools, by name.
    pub(in crate::plan) fn values(&self) -> impl Iterator<Item = &Arc<PlacedPool>> {
        self.by_key.values()
    }

    /// The names of the pools that a service has.
    pub(super) fn keys_of(&self, service: &ServiceName) -> impl Iterator<Item = PoolKey> {
        [false, true]
            .map(|v6_part| PoolKey {
                service: service.clone(),
                v6_part,
            })
            .into_iter()
            .filter(|key| self.contains_key(key))
    }

    /// Puts a pool in place of the one of its name, which is given back.
    pub(in crate::plan) fn insert(&mut self, placed: Arc<PlacedPool>) -> Option<Arc<PlacedPool>> {
        let key = placed.pool.key.clone();
        let is_first = self.keys_of(&key.service).next().is_none();
        self.services += usize::from(is_first);
        self.totals.add(Totals::of(&placed));
        let before = self.by_key.insert(key, placed);
        if let Some(before) = &before {
            self.totals.subtract(Totals::of(before));
        }
        before
    }

    /// Takes a pool away.
    pub(in crate::plan) fn remove(&mut self, key: &PoolKey) -> Option<Arc<PlacedPool>> {
        let removed = self.by_key.remove(key)?;
        self.totals.subtract(Totals::of(&removed));
        let was_last = self.keys_of(&key.service).next().is_none();
        self.services -= usize::from(was_last);
        Some(removed)
    }

    /// Puts what `change` yields in place of each pool that it yields something for.
    pub(in crate::plan) fn update(&mut self, mut change: impl FnMut(&PlacedPool) -> Option<PlacedPool>) {
        let changed: Vec<PlacedPool> = self.values().filter_map(|placed| change(placed)).collect();
        for placed in changed {
            self.insert(Arc::new(placed));
        }
    }
}
