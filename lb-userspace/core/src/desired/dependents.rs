//! Which services depend on each health check and on each address, so that what is observed of one costs only what depends
//! on it.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    hash::Hash,
    net::IpAddr,
    sync::Arc,
};

use lb_check::ProbeTarget;

use super::{Forwarder, Service, ServiceName, Services};

/// The services that depend on each health check and on each address, by name.
#[derive(Clone, Debug, Default)]
pub struct Dependents {
    checks: Uses<ProbeTarget>,
    addresses: Uses<IpAddr>,
}

/// What differs between two desired states: what the services need that they did not need before, and what none of them needs any longer.
#[derive(Clone, Debug, Default)]
pub struct NeedsDelta {
    /// The services that differ.
    pub services: BTreeSet<ServiceName>,
    /// Health checks that begin.
    pub new_checks: HashSet<ProbeTarget>,
    /// Health checks that end.
    pub old_checks: HashSet<ProbeTarget>,
    /// Whether the addresses that packets are sent to, or what their forwarders need of the ways there, may be others.
    pub ways_changed: bool,
}

impl Dependents {
    /// Takes note that the desired state is `now` and was `before`.
    pub fn change(&mut self, before: &Services, now: &Services) -> NeedsDelta {
        let mut delta = NeedsDelta::default();
        for name in before.differing(now) {
            delta.ways_changed |= before.get(name).map(ways) != now.get(name).map(ways);
            delta.services.insert(name.clone());
        }
        // What stays is taken up before it is given back, so that it never seems to end.
        for service in delta.services.iter().filter_map(|name| now.get(name)) {
            for backend in &service.backends {
                self.addresses.add(backend.address, &service.name);
                if let Some(target) = service.probe_target(backend)
                    && self.checks.add(target.clone(), &service.name)
                {
                    delta.new_checks.insert(target);
                }
            }
        }
        for service in delta.services.iter().filter_map(|name| before.get(name)) {
            for backend in &service.backends {
                self.addresses.remove(&backend.address, &service.name);
                if let Some(target) = service.probe_target(backend)
                    && self.checks.remove(&target, &service.name)
                {
                    delta.old_checks.insert(target);
                }
            }
        }
        delta
    }

    /// The services with a backend that has this health check.
    pub fn of_check(&self, target: &ProbeTarget) -> impl Iterator<Item = &ServiceName> {
        self.checks.of(target)
    }

    /// The services with a backend at this address.
    pub fn of_address(&self, address: &IpAddr) -> impl Iterator<Item = &ServiceName> {
        self.addresses.of(address)
    }

    /// Whether some backend has this health check.
    pub fn has_check(&self, target: &ProbeTarget) -> bool {
        self.checks.0.contains_key(target)
    }
}

/// The addresses that a service's packets are sent to, and how.
fn ways(service: &Arc<Service>) -> BTreeSet<(IpAddr, Forwarder)> {
    let backends = service.backends.iter();
    backends
        .map(|backend| (backend.address, backend.forwarder_in_use(service)))
        .collect()
}

/// What services use, and how many backends of each service use it. Names are in order.
#[derive(Clone, Debug)]
struct Uses<T>(HashMap<T, Vec<(ServiceName, u32)>>);

impl<T> Default for Uses<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Uses<T> {
    /// Notes one more use by `service`; whether it is the first by any.
    fn add(&mut self, used: T, service: &ServiceName) -> bool {
        let users = self.0.entry(used).or_default();
        let is_first = users.is_empty();
        match users.binary_search_by(|(name, _)| name.cmp(service)) {
            Ok(at) => users[at].1 += 1,
            Err(at) => users.insert(at, (service.clone(), 1)),
        }
        is_first
    }

    /// Notes one use less by `service`; whether it was the last by any.
    fn remove(&mut self, used: &T, service: &ServiceName) -> bool
    where
        T: Clone,
    {
        let Entry::Occupied(mut entry) = self.0.entry(used.clone()) else {
            return false;
        };
        let users = entry.get_mut();
        if let Ok(at) = users.binary_search_by(|(name, _)| name.cmp(service)) {
            users[at].1 -= 1;
            if users[at].1 == 0 {
                users.remove(at);
            }
        }
        let was_last = users.is_empty();
        if was_last {
            entry.remove();
        }
        was_last
    }

    fn of(&self, used: &T) -> impl Iterator<Item = &ServiceName> {
        self.0.get(used).into_iter().flatten().map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::desired::{Change, arbitrary};

    /// What a desired state needs, by looking at all of it.
    fn needs(services: &Services) -> (BTreeMap<IpAddr, BTreeSet<ServiceName>>, HashSet<ProbeTarget>) {
        let mut addresses: BTreeMap<IpAddr, BTreeSet<ServiceName>> = BTreeMap::new();
        let mut checks = HashSet::new();
        for service in services.iter() {
            for backend in &service.backends {
                addresses
                    .entry(backend.address)
                    .or_default()
                    .insert(service.name.clone());
                checks.extend(service.probe_target(backend));
            }
        }
        (addresses, checks)
    }

    proptest! {
        /// After any changes the index says what a look at everything says, and the deltas add up to it.
        #[test]
        fn deltas_add_up_to_a_look_at_everything(
            states in proptest::collection::vec(arbitrary::services(), 1..8),
        ) {
            let mut dependents = Dependents::default();
            let mut checks: HashSet<ProbeTarget> = HashSet::new();
            let mut before = Services::default();
            for next in states {
                let next = before
                    .after(Change::ReplaceAll(next, crate::desired::Removal::Drain))
                    .expect("replaced");
                let delta = dependents.change(&before, &next);
                for old in &delta.old_checks {
                    prop_assert!(checks.remove(old));
                }
                for new in delta.new_checks {
                    prop_assert!(checks.insert(new));
                }
                let (addresses, wanted) = needs(&next);
                prop_assert_eq!(&checks, &wanted);
                prop_assert_eq!(dependents.addresses.0.len(), addresses.len());
                for (address, names) in addresses {
                    let of: BTreeSet<ServiceName> = dependents.of_address(&address).cloned().collect();
                    prop_assert_eq!(of, names);
                }
                for target in wanted {
                    prop_assert!(dependents.has_check(&target));
                    for name in dependents.of_check(&target) {
                        let service = next.get(name).expect("a service");
                        let has = service.backends.iter().any(|b| service.probe_target(b).as_ref() == Some(&target));
                        prop_assert!(has);
                    }
                }
                before = next;
            }
        }
    }
}
