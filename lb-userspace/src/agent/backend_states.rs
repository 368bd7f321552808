//! Since when each backend stands where it stands.

use std::{collections::HashMap, time::SystemTime};

use super::observed::ObservedState;
use lb_core::desired::{BackendId, ServiceName, Services};
use lb_core::plan::{BackendState, backend_state};

/// A backend of a service.
type Key = (ServiceName, BackendId);

/// The present situation of every backend, and since when.
#[derive(Debug, Default)]
pub(super) struct BackendStates(HashMap<Key, (BackendState, SystemTime)>);

/// A backend that stands elsewhere than before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) service: ServiceName,
    pub(super) backend: BackendId,
    /// Absent for a new backend.
    pub(super) before: Option<BackendState>,
    pub(super) now: BackendState,
}

impl BackendStates {
    /// Takes note of what has changed, and says what that is.
    pub(super) fn observe(
        &mut self,
        services: &Services,
        observed: &ObservedState,
        at: SystemTime,
    ) -> Vec<Transition> {
        let mut next = HashMap::with_capacity(self.0.len());
        let mut moves = Vec::new();
        for service in services.iter() {
            for backend in &service.backends {
                let key = (service.name.clone(), backend.id());
                let now = backend_state(observed, service, backend);
                let before = self.0.get(&key).copied();
                if before.is_none_or(|(before, _)| before != now) {
                    let (service, backend) = key.clone();
                    moves.push(Transition {
                        service,
                        backend,
                        before: before.map(|(before, _)| before),
                        now,
                    });
                }
                let since = before
                    .filter(|(before, _)| *before == now)
                    .map_or(at, |(_, since)| since);
                next.insert(key, (now, since));
            }
        }
        self.0 = next;
        moves
    }

    /// Where a backend stands, and since when.
    pub(super) fn of(&self, service: &ServiceName, backend: BackendId) -> Option<(BackendState, SystemTime)> {
        self.0.get(&(service.clone(), backend)).copied()
    }
}
