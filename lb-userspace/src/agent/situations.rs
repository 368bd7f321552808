//! Since when each backend stands where it stands.

use std::{collections::HashMap, time::SystemTime};

use super::facts::Knowledge;
use crate::{
    model::{BackendId, ServiceName, Services},
    plan::{Situation, situation},
};

/// The present situation of every backend, and since when.
#[derive(Debug, Default)]
pub(super) struct Situations(HashMap<(ServiceName, BackendId), (Situation, SystemTime)>);

impl Situations {
    /// Takes note of what has changed.
    pub(super) fn observe(&mut self, services: &Services, knowledge: &Knowledge, now: SystemTime) {
        let mut next = HashMap::with_capacity(self.0.len());
        for service in services.iter() {
            for backend in &service.backends {
                let key = (service.name.clone(), backend.id());
                let present = situation(knowledge, service, backend);
                let since = match self.0.get(&key) {
                    Some((before, since)) if *before == present => *since,
                    _ => now,
                };
                next.insert(key, (present, since));
            }
        }
        self.0 = next;
    }

    /// Where a backend stands, and since when.
    pub(super) fn of(&self, service: &ServiceName, backend: BackendId) -> Option<(Situation, SystemTime)> {
        self.0.get(&(service.clone(), backend)).copied()
    }
}
