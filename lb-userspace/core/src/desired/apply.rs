//! What a [`Change`] makes of the desired state.

use std::collections::{BTreeMap, HashSet};

use super::{
    AdminState, Backend, BackendId, Change, Invalid, Removal, Selection, Service, ServiceName, Services,
    leaving,
};

/// Why a [`Change`] was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such service.
    #[error("there is no service {0}: `lb list` shows the services")]
    NoService(ServiceName),
    /// No such backend in that service.
    #[error("service {0} has no backend {1}: `lb list` shows its backends")]
    NoBackend(ServiceName, BackendId),
    /// The name is taken.
    #[error("there is a service {0} already: change it with `lb service set {0}`")]
    ServiceExists(ServiceName),
    /// The backend is there already.
    #[error("service {0} has a backend {1} already: change it with `lb backend set {0} {1}`")]
    BackendExists(ServiceName, BackendId),
    /// Nobody is meant.
    #[error("no backend has {0}: `lb list` shows the backends")]
    NobodySelected(Selection),
    /// The result would break a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Services {
    /// The desired state after one change; `self` stays as it is.
    ///
    /// # Errors
    /// What the change names and is not there (or is there already), or the rule that the result would break.
    pub fn after(&self, change: Change) -> Result<Self, ChangeError> {
        match change {
            Change::ReplaceAll(services, Removal::Now) => Ok(services),
            Change::ReplaceAll(services, Removal::Drain) => Ok(leaving::kept(self, services)),
            Change::RemoveService { service: name } => {
                let mut next = self.clone();
                if next.remove(&name) {
                    Ok(next)
                } else {
                    Err(ChangeError::NoService(name))
                }
            }
            Change::AddService(service) if self.get(&service.name).is_some() => {
                Err(ChangeError::ServiceExists(service.name))
            }
            Change::AddService(service) => {
                service.check_desired()?;
                Ok(self.with(service)?)
            }
            Change::SetService { service, patch } => self.edited(service, |service| {
                patch.apply(service);
                Ok(())
            }),
            Change::AddBackend { service, backend } => {
                self.edited(service, |service| add_backend(service, backend))
            }
            Change::SetBackend {
                service,
                backend,
                patch,
            } => self.edited(
                service,
                |service| Ok(patch.apply(backend_mut(service, backend)?)?),
            ),
            Change::RemoveBackend {
                service,
                backend,
                removal,
            } => self.edited(service, |service| remove_backend(service, backend, removal)),
            Change::Drain(selection) => {
                selection.check()?;
                let deadline = selection.deadline;
                self.selected(selection, |backend| {
                    if matches!(backend.state, AdminState::Ready | AdminState::Drain) {
                        backend.enter(AdminState::Drain);
                        backend.deadline = deadline.or(backend.deadline);
                    }
                })
            }
            Change::Ready(selection) => {
                selection.check_without_deadline()?;
                self.selected(selection, |backend| {
                    if matches!(backend.state, AdminState::Drain | AdminState::Maint) {
                        backend.enter(AdminState::Ready);
                    }
                })
            }
            Change::Reload { .. } => {
                Err(Invalid::new("a reload says nothing before its file has been read").into())
            }
            Change::EndDrains(over) => Ok(self.without_drains(&over)),
        }
    }

    /// With other states of the selected backends: no rule looks at states, so none can be broken.
    fn selected(&self, selection: Selection, edit: impl Fn(&mut Backend)) -> Result<Self, ChangeError> {
        let has = |b: &Backend| selection.has(b.address, b.zone.as_ref());
        let reached = self.iter().filter(|service| selection.reaches(&service.name));
        let mut next = self.clone();
        let mut found = false;
        for service in reached.filter(|service| service.backends.iter().any(has)) {
            found = true;
            let mut service = Service::clone(service);
            service.backends.iter_mut().filter(|b| has(b)).for_each(&edit);
            next.replace(service);
        }
        match &selection.service {
            Some(name) if self.get(name).is_none() => Err(ChangeError::NoService(name.clone())),
            _ if !found => Err(ChangeError::NobodySelected(selection)),
            _ => Ok(next),
        }
    }

    /// Without the backends that have left, and with the drained ones in maintenance: that breaks no rule.
    fn without_drains(&self, over: &[(ServiceName, BackendId)]) -> Self {
        let mut ended: BTreeMap<&ServiceName, HashSet<BackendId>> = BTreeMap::new();
        for (name, id) in over {
            ended.entry(name).or_default().insert(*id);
        }
        let mut next = self.clone();
        for (name, ended) in ended {
            let Some(service) = self.get(name) else {
                continue;
            };
            let mut service = Service::clone(service);
            let over = |b: &Backend| ended.contains(&b.id());
            service
                .backends
                .retain(|b| !(over(b) && b.state == AdminState::Leaving));
            for backend in service.backends.iter_mut().filter(|b| over(b) && b.drains()) {
                backend.enter(AdminState::Maint);
            }
            next.replace(service);
        }
        next
    }

    fn edited(
        &self,
        name: ServiceName,
        edit: impl FnOnce(&mut Service) -> Result<(), ChangeError>,
    ) -> Result<Self, ChangeError> {
        let mut service = Service::clone(self.get(&name).ok_or(ChangeError::NoService(name))?);
        edit(&mut service)?;
        Ok(self.with(service)?)
    }
}

fn add_backend(service: &mut Service, backend: Backend) -> Result<(), ChangeError> {
    backend.check_desired()?;
    match backend_mut(service, backend.id()) {
        Ok(present) if present.state == AdminState::Leaving => *present = backend,
        Ok(_) => return Err(ChangeError::BackendExists(service.name.clone(), backend.id())),
        Err(_) => service.backends.push(backend),
    }
    Ok(())
}

fn remove_backend(service: &mut Service, id: BackendId, removal: Removal) -> Result<(), ChangeError> {
    let backend = backend_mut(service, id)?;
    // In maintenance it has no flows that could be waited for.
    if removal == Removal::Drain && backend.state != AdminState::Maint {
        backend.enter(AdminState::Leaving);
        return Ok(());
    }
    let id = backend.id();
    service.backends.retain(|b| b.id() != id);
    Ok(())
}

fn backend_mut(service: &mut Service, id: BackendId) -> Result<&mut Backend, ChangeError> {
    let normal = service.normal_id(id);
    let name = service.name.clone();
    service
        .backends
        .iter_mut()
        .find(|b| b.id() == normal)
        .ok_or(ChangeError::NoBackend(name, id))
}
