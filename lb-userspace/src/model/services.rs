//! The whole wish: all services, and the rules that hold between them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    num::NonZeroU16,
    sync::Arc,
};

use super::{
    Backend, BackendId, Change, Forwarder, Invalid, Key, MAX_SERVICES, Protocol, Service, ServiceName,
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
    /// The result would break a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// All services by name; always valid as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services(BTreeMap<ServiceName, Arc<Service>>);

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
        let mut names = HashSet::new();
        for (i, service) in services.iter().enumerate() {
            if !names.insert(&service.name) {
                let message = format!("{:?} names an earlier service already", service.name.as_str());
                return Err(in_list(Invalid::new(message).at(Key::Name("name")), i));
            }
            claims.check(service).map_err(|e| in_list(e, i))?;
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

    /// This wish after one change; `self` stays as it is.
    ///
    /// # Errors
    /// What the change names and is not there (or is there already), or the rule that the result would break.
    pub fn after(&self, change: Change) -> Result<Self, ChangeError> {
        match change {
            Change::ReplaceAll(services) => Ok(services),
            Change::RemoveService(name) => {
                let mut next = self.clone();
                next.0
                    .remove(&name)
                    .map(|_| next)
                    .ok_or(ChangeError::NoService(name))
            }
            Change::AddService(service) if self.0.contains_key(&service.name) => {
                Err(ChangeError::ServiceExists(service.name))
            }
            Change::AddService(service) => self.with(service),
            Change::SetService(name, patch) => self.edited(name, |service| {
                patch.apply(service);
                Ok(())
            }),
            Change::AddBackend(name, backend) => self.edited(name, |service| add_backend(service, backend)),
            Change::SetBackend(name, id, patch) => self.edited(name, |service| {
                patch.apply(backend_mut(service, id)?);
                Ok(())
            }),
            Change::RemoveBackend(name, id) => self.edited(name, |service| {
                let id = backend_mut(service, id)?.id();
                service.backends.retain(|b| b.id() != id);
                Ok(())
            }),
        }
    }

    fn edited(
        &self,
        name: ServiceName,
        edit: impl FnOnce(&mut Service) -> Result<(), ChangeError>,
    ) -> Result<Self, ChangeError> {
        let mut service = Service::clone(self.0.get(&name).ok_or(ChangeError::NoService(name))?);
        edit(&mut service)?;
        self.with(service)
    }

    /// With `service` in place of the one of its name; the others are known to agree among themselves.
    fn with(&self, service: Service) -> Result<Self, ChangeError> {
        let service = service.normalised()?;
        if self.0.len() >= MAX_SERVICES && !self.0.contains_key(&service.name) {
            return Err(Invalid::new(format!(
                "there are {MAX_SERVICES} services already, the most possible"
            ))
            .into());
        }
        let mut claims = Claims::default();
        claims.add(&service);
        for other in self.0.values() {
            if other.name != service.name {
                claims.check(other).map_err(|e| Invalid {
                    path: Vec::new(),
                    ..e
                })?;
            }
        }
        let mut next = self.clone();
        next.0.insert(service.name.clone(), Arc::new(service));
        Ok(next)
    }
}

/// A complaint about the `index`-th service of a list.
fn in_list(complaint: Invalid, index: usize) -> Invalid {
    complaint.at(Key::Index(index)).at(Key::Name("service"))
}

fn add_backend(service: &mut Service, backend: Backend) -> Result<(), ChangeError> {
    if service.backend(backend.id()).is_some() {
        return Err(ChangeError::BackendExists(service.name.clone(), backend.id()));
    }
    service.backends.push(backend);
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

/// What clients send to: it belongs to one service.
type Front = (IpAddr, Protocol, Option<NonZeroU16>);

/// What the services hold; a second holder of the same is refused.
#[derive(Default)]
struct Claims<'a> {
    fronts: HashMap<Front, &'a ServiceName>,
    /// By backend host and protocol, then by the port that the answers come from (none: any port).
    answers: HashMap<(IpAddr, Protocol), BTreeMap<Option<NonZeroU16>, Answer<'a>>>,
}

/// The answers of a backend reached by `nat`: its address and port must tell which VIP and port to restore.
#[derive(Clone, Copy)]
struct Answer<'a> {
    holder: &'a ServiceName,
    vip: IpAddr,
    front: Option<NonZeroU16>,
    back: Option<NonZeroU16>,
}

impl Answer<'_> {
    /// Whether both restore the same, where one of them is for any port and the other for one.
    fn agrees(&self, other: &Self) -> bool {
        self.vip == other.vip && self.front == self.back && other.front == other.back
    }
}

impl<'a> Claims<'a> {
    /// Refuses `service` when another one holds what it needs.
    fn check(&self, service: &Service) -> Result<(), Invalid> {
        for (i, front) in fronts(service).enumerate() {
            if let Some(holder) = self.fronts.get(&front) {
                let (vip, protocol, _) = front;
                let message = format!(
                    "services {} and {holder} both claim {vip} {protocol} port {}: a VIP, protocol and port belong \
                     to one service",
                    service.name, service.port
                );
                return Err(Invalid::new(message).at(Key::Index(i)).at(Key::Name("vips")));
            }
        }
        for (i, host, answer) in answers(service) {
            if let Some(other) = self.answers.get(&host).and_then(|held| ambiguous(held, &answer)) {
                let message = format!(
                    "services {} and {} both reach {} with the nat forwarder: its answers could not tell which VIP \
                     to restore; let the backend listen on another port for one of them, or use l2dsr or ipip",
                    service.name,
                    other.holder,
                    service.backends[i].id()
                );
                return Err(Invalid::new(message).at(Key::Index(i)).at(Key::Name("backend")));
            }
        }
        Ok(())
    }

    fn add(&mut self, service: &'a Service) {
        self.fronts
            .extend(fronts(service).map(|front| (front, &service.name)));
        for (_, host, answer) in answers(service) {
            self.answers.entry(host).or_default().insert(answer.back, answer);
        }
    }
}

/// The holder, among those of one host, whose answers could be taken for `new` ones.
fn ambiguous<'h, 'a>(
    held: &'h BTreeMap<Option<NonZeroU16>, Answer<'a>>,
    new: &Answer<'_>,
) -> Option<&'h Answer<'a>> {
    match new.back {
        _ if held.contains_key(&new.back) => held.get(&new.back),
        Some(_) => held.get(&None).filter(|any| !any.agrees(new)),
        None => held.values().find(|one| !one.agrees(new)),
    }
}

fn fronts(service: &Service) -> impl Iterator<Item = Front> {
    service
        .vips
        .iter()
        .map(|vip| (*vip, service.protocol, service.port.exact()))
}

/// With the backend's position and its host.
fn answers(service: &Service) -> impl Iterator<Item = (usize, (IpAddr, Protocol), Answer<'_>)> {
    let nat = service.forwarder == Forwarder::Nat;
    let backends = service.backends.iter().enumerate().filter(move |_| nat);
    backends.filter_map(|(i, backend)| {
        // A nat service has one VIP of each family that its backends have.
        let vip = service
            .vips
            .iter()
            .find(|vip| vip.is_ipv4() == backend.address.is_ipv4())?;
        let front = service.port.exact();
        let answer = Answer {
            holder: &service.name,
            vip: *vip,
            front,
            back: backend.port.or(front),
        };
        Some((i, (backend.address, service.protocol), answer))
    })
}
