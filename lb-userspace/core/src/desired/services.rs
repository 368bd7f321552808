//! The whole desired state: all services, and the rules that hold between them.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

use super::{Invalid, Key, MAX_SERVICES, Service, ServiceName, claims::Claims};

/// All services by name; always valid as a whole.
///
/// A copy shares all that it has in common with the original: copying costs nothing, and changing a copy costs what is
/// changed.
#[derive(Clone, Debug, Default)]
pub struct Services {
    by_name: OrdMap<ServiceName, Arc<Service>>,
    /// What they hold of what they share. It follows from the services.
    claims: Claims,
}

impl PartialEq for Services {
    fn eq(&self, other: &Self) -> bool {
        self.by_name == other.by_name
    }
}

impl Eq for Services {}

impl Services {
    /// The services in `list`, where every rule holds.
    ///
    /// # Errors
    /// The first rule that is broken; its path starts at `service[i]`.
    pub fn new(list: Vec<Service>) -> Result<Self, Invalid> {
        if list.len() > MAX_SERVICES {
            let message = format!("{} services, at most {MAX_SERVICES}", list.len());
            return Err(Invalid::new(message).at(Key::Name("service")));
        }
        let mut services = Vec::with_capacity(list.len());
        for (i, service) in list.into_iter().enumerate() {
            services.push(service.normalised().map_err(|e| in_list(e, i))?);
        }
        let mut all = Self::default();
        for (i, service) in services.into_iter().enumerate() {
            if all.by_name.contains_key(&service.name) {
                let message = format!("{:?} names an earlier service already", service.name.as_str());
                return Err(in_list(Invalid::new(message).at(Key::Name("name")), i));
            }
            all.claims.check(&service).map_err(|e| in_list(e, i))?;
            all.replace(service);
        }
        Ok(all)
    }

    /// The services, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_name.values()
    }

    /// The service of that name.
    pub fn get(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.by_name.get(name)
    }

    /// All names.
    pub fn names(&self) -> BTreeSet<ServiceName> {
        self.by_name.keys().cloned().collect()
    }

    /// The names that come after `last` in order, or all of them.
    pub fn names_after(&self, last: Option<&ServiceName>) -> impl Iterator<Item = &ServiceName> {
        let from = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
        self.by_name.range((from, Bound::Unbounded)).map(|(name, _)| name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The names of the services that `other` has otherwise, or not at all, or alone, in order.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a ServiceName> {
        self.by_name.diff(&other.by_name).map(|item| match item {
            DiffItem::Add(name, _) | DiffItem::Remove(name, _) => name,
            DiffItem::Update { old: (name, _), .. } => name,
        })
    }

    /// With `service` in place of the one of its name, if every rule holds then.
    pub(super) fn with(&self, service: Service) -> Result<Self, Invalid> {
        let service = service.normalised()?;
        let present = self.by_name.get(&service.name);
        if self.by_name.len() >= MAX_SERVICES && present.is_none() {
            return Err(Invalid::new(format!(
                "there are {MAX_SERVICES} services already, the most possible"
            )));
        }
        let mut next = self.clone();
        if let Some(present) = present {
            next.claims.remove(present);
        }
        next.claims.check(&service)?;
        next.claims.add(&service);
        next.by_name.insert(service.name.clone(), Arc::new(service));
        Ok(next)
    }

    /// Puts `service` in place of the one of its name. The caller knows that every rule holds then.
    pub(super) fn replace(&mut self, service: Service) {
        if let Some(present) = self.by_name.get(&service.name) {
            self.claims.remove(present);
        }
        self.claims.add(&service);
        self.by_name.insert(service.name.clone(), Arc::new(service));
    }

    /// Takes a service away; whether there was one of that name.
    pub(super) fn remove(&mut self, name: &ServiceName) -> bool {
        let removed = self.by_name.remove(name);
        if let Some(service) = &removed {
            self.claims.remove(service);
        }
        removed.is_some()
    }

    /// What the services hold of what they share.
    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// A complaint about the `index`-th service of a list.
fn in_list(complaint: Invalid, index: usize) -> Invalid {
    complaint.at(Key::Index(index)).at(Key::Name("service"))
}
