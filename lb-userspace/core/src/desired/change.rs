//! One change to the desired state, as the CLI, the API and a reload express it.

use std::{fmt, net::IpAddr};

use super::{Backend, BackendId, BackendPatch, Service, ServiceName, ServicePatch, Services, Span, Zone};

/// A change; applied as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new service.
    AddService(Service),
    /// Some parts of a service become others.
    SetService(ServiceName, ServicePatch),
    /// A service goes at once, with its backends.
    RemoveService(ServiceName),
    /// A new backend, or one that was leaving stays after all.
    AddBackend(ServiceName, Backend),
    /// Some parts of a backend become others.
    SetBackend(ServiceName, BackendId, BackendPatch),
    /// A backend goes.
    RemoveBackend(ServiceName, BackendId, Removal),
    /// All ready backends of the selection run dry, by this deadline or else their services'.
    Drain(Selection, Option<Span>),
    /// All backends of the selection that drain or are in maintenance become ready.
    Ready(Selection),
    /// Drains are over: those that leave are gone, the others in maintenance. Backends that do not drain stay.
    EndDrains(Vec<(ServiceName, BackendId)>),
    /// Everything becomes what a configuration file says.
    ReplaceAll(Services, Removal),
}

/// How a backend goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removal {
    /// It takes no new flows and goes when its drain is over.
    #[default]
    Drain,
    /// At once; its flows are cut.
    Now,
}

impl Removal {
    /// Of an operator who may have said "now".
    pub fn when(now: bool) -> Self {
        if now { Self::Now } else { Self::Drain }
    }
}

/// Several backends at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// What they share.
    pub whom: SelectBy,
    /// Only those of this service.
    pub service: Option<ServiceName>,
}

/// What the backends of a [`Selection`] share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectBy {
    /// Their address: one host in all services.
    Host(IpAddr),
    /// Their zone.
    Zone(Zone),
}

impl Selection {
    /// Whether it may have backends in that service.
    pub fn reaches(&self, service: &ServiceName) -> bool {
        self.service.as_ref().is_none_or(|only| only == service)
    }

    /// Whether it has that backend of a service that it reaches.
    pub fn has(&self, backend: &Backend) -> bool {
        match &self.whom {
            SelectBy::Host(address) => backend.address == *address,
            SelectBy::Zone(zone) => backend.zone.as_ref() == Some(zone),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whom {
            SelectBy::Host(address) => write!(f, "the address {address}")?,
            SelectBy::Zone(zone) => write!(f, "the zone {zone}")?,
        }
        match &self.service {
            Some(service) => write!(f, " in service {service}"),
            None => Ok(()),
        }
    }
}
