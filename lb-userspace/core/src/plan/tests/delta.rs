//! A plan for the pools that differ leads to the same writes and the same layout as a plan for all pools.

use std::collections::BTreeSet;

use super::*;
use crate::desired::ServiceName;

impl Run {
    /// Compares `full`, a plan for all pools, with a plan for only those that differ from what is laid out.
    pub(super) fn check_delta(&self, full: &Result<Plan, CapacityError>) {
        let World { services, .. } = &self.world;
        let laid_out = self.layout.placed_pools.keys().map(|key| &key.service);
        let names: BTreeSet<&ServiceName> = services.iter().map(|s| &s.name).chain(laid_out).collect();
        let differs = |name: &&ServiceName| {
            let PoolsDelta { changed, gone } = self.layout.pools_of([*name], services, &self.world);
            let is_other = |pool: &Pool| {
                let placed = self.layout.placed_pools.get(&pool.key);
                placed.is_none_or(|placed| placed.pool != *pool)
            };
            !gone.is_empty() || changed.iter().any(is_other)
        };
        let names: Vec<&ServiceName> = names.into_iter().filter(differs).collect();
        let delta = self.layout.pools_of(names, services, &self.world);
        let delta = self.layout.plan_delta(delta, self.generation, self.now);
        match (full, &delta) {
            (Ok(full), Ok(delta)) => {
                assert_eq!(full.writes, delta.writes);
                assert_eq!(full.given_up, delta.given_up);
                assert_eq!(format!("{:?}", full.layout), format!("{:?}", delta.layout));
            }
            (full, delta) => assert_eq!(full.as_ref().err(), delta.as_ref().err()),
        }
    }

    /// Checks that there is nothing to do where nothing has changed since the last plan, whatever time has passed and whatever
    /// was swept.
    pub(super) fn check_nothing_is_left(&self) {
        let World { services, .. } = &self.world;
        let PoolsDelta { changed, gone } = self.layout.pools_of(&services.names(), services, &self.world);
        assert_eq!(gone, []);
        for pool in changed {
            let placed = self.layout.placed_pools.get(&pool.key).expect("a pool");
            assert_eq!(placed.pool, pool);
        }
    }
}
