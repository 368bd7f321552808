//! The whole desired state: all services, and the rules that hold between them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    Invalid, Key, MAX_SERVICES, Service, ServiceName,
    claims::{Claims, PrefixLengths},
};

/// All services by name; always valid as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services(pub(super) BTreeMap<ServiceName, Arc<Service>>);

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
        let mut claims = Claims::default();
        let mut lengths = PrefixLengths::default();
        let mut names = HashSet::new();
        for (i, service) in services.iter().enumerate() {
            if !names.insert(&service.name) {
                let message = format!("{:?} names an earlier service already", service.name.as_str());
                return Err(in_list(Invalid::new(message).at(Key::Name("name")), i));
            }
            claims.check(service).map_err(|e| in_list(e, i))?;
            lengths.admit(service).map_err(|e| in_list(e, i))?;
            claims.add(service);
        }
        Ok(Self(
            services
                .into_iter()
                .map(|s| (s.name.clone(), Arc::new(s)))
                .collect(),
        ))
    }

    /// The services, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.0.values()
    }

    /// The service of that name.
    pub fn get(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.0.get(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With `service` in place of the one of its name; the others are known to agree among themselves.
    pub(super) fn with(&self, service: Service) -> Result<Self, Invalid> {
        let service = service.normalised()?;
        if self.0.len() >= MAX_SERVICES && !self.0.contains_key(&service.name) {
            return Err(Invalid::new(format!(
                "there are {MAX_SERVICES} services already, the most possible"
            )));
        }
        let mut claims = Claims::default();
        let mut lengths = PrefixLengths::default();
        claims.add(&service);
        for other in self.0.values().filter(|other| other.name != service.name) {
            claims.check(other).map_err(|e| Invalid {
                path: Vec::new(),
                ..e
            })?;
            lengths.admit(other)?;
        }
        lengths.admit(&service)?;
        let mut next = self.clone();
        next.0.insert(service.name.clone(), Arc::new(service));
        Ok(next)
    }
}

/// A complaint about the `index`-th service of a list.
fn in_list(complaint: Invalid, index: usize) -> Invalid {
    complaint.at(Key::Index(index)).at(Key::Name("service"))
}
