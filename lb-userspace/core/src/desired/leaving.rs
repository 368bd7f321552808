//! What becomes of backends that a new configuration file no longer has.
//!
//! Invariant: the file's own services and backends are untouched. What would get in their way is cut.

use std::collections::HashSet;

use super::{AdminState, Backend, BackendId, MAX_BACKENDS, Service, Services};

/// `new` with the backends of `old` that it lacks, as leaving ones.
pub(super) fn kept(old: &Services, new: Services) -> Services {
    let mut claims = new.claims().clone();
    let mut grown = Vec::new();
    for service in new.iter() {
        let Some(before) = old.get(&service.name) else {
            continue;
        };
        let mut leaving = candidates(before, service);
        leaving.retain(|backend| service.check_backend(backend).is_ok() && claims.admit(service, backend));
        leaving.truncate(MAX_BACKENDS - service.backends.len());
        if !leaving.is_empty() {
            let mut service = Service::clone(service);
            service.backends.extend(leaving);
            grown.push(service);
        }
    }
    let mut new = new;
    for service in grown {
        new.replace(service);
    }
    new
}

/// The backends of `before` that `now` lacks and that may still have flows: a service with another protocol or port is
/// another one by the same name.
fn candidates(before: &Service, now: &Service) -> Vec<Backend> {
    if (before.protocol, before.port) != (now.protocol, now.port) {
        return Vec::new();
    }
    let present: HashSet<BackendId> = now.backends.iter().map(Backend::id).collect();
    let missing = before.backends.iter().filter(|b| !present.contains(&b.id()));
    missing
        .filter(|b| b.state != AdminState::Maint)
        .map(|backend| {
            let mut backend = backend.clone();
            backend.enter(AdminState::Leaving);
            backend
        })
        .collect()
}
