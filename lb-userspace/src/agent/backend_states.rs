//! The state of every backend, and since when it has been that.

use std::{
    collections::{BTreeSet, HashMap},
    time::SystemTime,
};

use super::observed::ObservedState;
use lb_core::desired::{BackendId, Service, ServiceName, Services};
use lb_core::plan::{BackendState, backend_state};

/// The states of a service's backends, each with the time since when it has been that.
type OfService = HashMap<BackendId, (BackendState, SystemTime)>;

/// The present state of every backend, and since when.
#[derive(Debug, Default)]
pub(super) struct BackendStates {
    services: HashMap<ServiceName, OfService>,
    backends: usize,
    up: usize,
}

/// A backend that has another state than before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) service: ServiceName,
    pub(super) backend: BackendId,
    /// Absent for a new backend.
    pub(super) before: Option<BackendState>,
    pub(super) now: BackendState,
}

impl BackendStates {
    /// Takes note of what has changed in any service, and says what that is.
    pub(super) fn observe_all(
        &mut self,
        services: &Services,
        observed: &ObservedState,
        at: SystemTime,
    ) -> Vec<Transition> {
        let mut names = services.names();
        names.extend(self.services.keys().cloned());
        self.observe(&names, services, observed, at)
    }

    /// Takes note of what has changed in these services, and says what that is.
    pub(super) fn observe(
        &mut self,
        names: &BTreeSet<ServiceName>,
        services: &Services,
        observed: &ObservedState,
        at: SystemTime,
    ) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for name in names {
            let before = self.services.remove(name).unwrap_or_default();
            self.count_out(&before);
            let Some(service) = services.get(name) else {
                continue;
            };
            let now = observe_service(service, &before, observed, at, &mut transitions);
            self.count_in(&now);
            self.services.insert(name.clone(), now);
        }
        transitions
    }

    /// The state of a backend, and since when it has been that.
    pub(super) fn of(&self, service: &ServiceName, backend: BackendId) -> Option<(BackendState, SystemTime)> {
        self.services.get(service)?.get(&backend).copied()
    }

    /// How many backends there are, and how many of them take traffic.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.backends as u64, self.up as u64)
    }

    fn count_in(&mut self, states: &OfService) {
        self.backends += states.len();
        self.up += count_up(states);
    }

    fn count_out(&mut self, states: &OfService) {
        self.backends -= states.len();
        self.up -= count_up(states);
    }
}

fn count_up(states: &OfService) -> usize {
    states
        .values()
        .filter(|(state, _)| *state == BackendState::Up)
        .count()
}

/// The states of a service's backends now. What differs from `before` is added to `transitions`.
fn observe_service(
    service: &Service,
    before: &OfService,
    observed: &ObservedState,
    at: SystemTime,
    transitions: &mut Vec<Transition>,
) -> OfService {
    let mut observe = |id, backend| {
        let now = backend_state(observed, service, backend);
        let before = before.get(&id).copied();
        if let Some((same, since)) = before.filter(|(state, _)| *state == now) {
            return (same, since);
        }
        transitions.push(Transition {
            service: service.name.clone(),
            backend: id,
            before: before.map(|(before, _)| before),
            now,
        });
        (now, at)
    };
    let backends = service.backends.iter();
    backends
        .map(|backend| (backend.id(), observe(backend.id(), backend)))
        .collect()
}
