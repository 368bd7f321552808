//! What a write would do, worked out and not done.
//!
//! Invariant: nothing is written, neither desired state nor tables nor generation; what is said is what the same write would do
//! to the tables at this moment.

mod pair;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, btree_map::Entry},
    net::IpAddr,
    time::Instant,
};

use lb_common::abi::{TagsEntry, TargetCounters};
use pair::Pair;

use super::{
    actor::Actor,
    actor::draining,
    handle::RequestError,
    observed::{Expected, addresses, probe_targets},
};
use lb_api::plan::{PlanView, ServicePlan};
use lb_check::ProbeTarget;
use lb_core::desired::{Backend, Change, Service, ServiceName, Services};
use lb_core::plan::{
    Availability, BackendRef, CapacityError, Layout, NextHop, Observed, Pool, PoolKey, TunnelSources,
};

impl Actor {
    /// What a change would do, if the generation is the expected one.
    pub(super) fn preview(
        &mut self,
        change: Change,
        expected: Option<u64>,
    ) -> Result<PlanView, RequestError> {
        self.check_generation(expected)?;
        let next = self.services.after(change)?;
        self.check_sources(&next)?;
        self.sample();
        let live = |backend_ref: &BackendRef| live(&self.tally.of(backend_ref).total);
        let observed = &self.parts.observed;
        let differing = self.services.differing(&next).cloned().collect();
        let expected = Expected {
            observed,
            beliefs: &observed.beliefs(&self.services, &next, &differing),
        };
        let services = preview(&self.parts.layout, &self.services, &next, &expected, live)
            .map_err(|error| RequestError::Capacity(draining::with_advice(error.to_string(), &next)))?;
        Ok(PlanView {
            generation: self.generation,
            services,
        })
    }
}

/// About how many flows a backend has, by its counters: SYNs and FINs may be sent again, and a flow may end without any.
fn live(total: &TargetCounters) -> u64 {
    total.flows.saturating_sub(total.closed)
}

/// What the way from `present` to `next` would do to the tables of `layout`. `live` tells about how many flows a backend
/// of a TCP service has.
///
/// # Errors
/// When there is no room for it.
pub(crate) fn preview(
    layout: &Layout,
    present: &Services,
    next: &Services,
    observed: &impl Observed,
    live: impl Fn(&BackendRef) -> u64,
) -> Result<Vec<ServicePlan>, CapacityError> {
    let before = layout.pools(present, observed);
    let after = layout.pools(next, &Assumed::new(present, observed));
    check_room(layout, &after)?;
    let mut before: BTreeMap<&PoolKey, &Pool> = before.iter().map(|pool| (&pool.key, pool)).collect();
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for pool in &after {
        match before.remove(&pool.key) {
            Some(same) if same == pool => {}
            Some(old) => pairs.push(Pair::Changed(old, pool)),
            None => pairs.push(Pair::Added(pool)),
        }
    }
    pairs.extend(before.into_values().map(Pair::Removed));
    let mut services: BTreeMap<&ServiceName, ServicePlan> = BTreeMap::new();
    for pair in &pairs {
        let plan = pair.plan(&live);
        match services.entry(pair.name()) {
            Entry::Vacant(vacant) => drop(vacant.insert(plan)),
            Entry::Occupied(mut other) => other.get_mut().absorb(plan),
        }
    }
    Ok(services.into_values().collect())
}

fn check_room(layout: &Layout, pools: &[Pool]) -> Result<(), CapacityError> {
    let fits = |layout: &Layout| layout.plan(pools.to_vec(), 0, Instant::now()).map(drop);
    fits(layout).or_else(|error| {
        if !layout.has_retired() {
            return Err(error);
        }
        // As with the write itself: what was given up of late is room, too.
        let mut rested = layout.clone();
        rested.release_all();
        fits(&rested)
    })
}

/// Facts as they will be if all is well with what nobody has asked about yet.
struct Assumed<'a, F> {
    observed: &'a F,
    asked: HashSet<ProbeTarget>,
    looked_up: BTreeSet<IpAddr>,
}

impl<'a, F: Observed> Assumed<'a, F> {
    fn new(present: &Services, observed: &'a F) -> Self {
        Self {
            observed,
            asked: probe_targets(present),
            looked_up: addresses(present, &[]),
        }
    }
}

impl<F: Observed> Observed for Assumed<'_, F> {
    fn availability(&self, service: &Service, backend: &Backend) -> Availability {
        let known = service
            .probe_target(backend)
            .is_none_or(|target| self.asked.contains(&target));
        match self.observed.availability(service, backend) {
            Availability::Checking if !known => Availability::Up,
            said => said,
        }
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        let unknown = !self.looked_up.contains(&address);
        self.observed.next_hop(address).or(unknown.then_some(SOME_WAY))
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.observed.is_own(address) || !self.looked_up.contains(&address)
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        self.observed.tunnel_sources()
    }

    fn only_interface(&self) -> Option<u32> {
        self.observed.only_interface()
    }
}

/// A way that no packet is sent by.
const SOME_WAY: NextHop = NextHop {
    interface: 0,
    destination_mac: [0; 6],
    source_mac: [0; 6],
    mtu: 1500,
    on_link: true,
    tags: TagsEntry::NONE,
};

#[cfg(test)]
mod tests;
