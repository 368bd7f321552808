//! One change to the desired state, as the command line, the API and the agent's queue express it.
//!
//! Invariant: what an operator writes has one form. A [`Change`] goes as it is from the command line to the agent, and only
//! [`Services::after`] says what comes of it.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    Backend, BackendId, BackendPatch, Invalid, Service, ServiceName, ServicePatch, Services, Span, Zone,
};

/// A change; applied as a whole or not at all. Its JSON is the body of `POST /v1/write` and `POST /v1/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// A new service.
    AddService(Service),
    /// Some parts of a service become others.
    SetService {
        /// The service.
        service: ServiceName,
        /// What becomes of which part.
        patch: ServicePatch,
    },
    /// A service goes at once, with its backends.
    RemoveService {
        /// The service.
        service: ServiceName,
    },
    /// A new backend, or one that was leaving stays after all.
    AddBackend {
        /// The service.
        service: ServiceName,
        /// The backend.
        backend: Backend,
    },
    /// Some parts of a backend become others.
    SetBackend {
        /// The service.
        service: ServiceName,
        /// Its backend.
        backend: BackendId,
        /// What becomes of which part.
        patch: BackendPatch,
    },
    /// A backend goes.
    RemoveBackend {
        /// The service.
        service: ServiceName,
        /// Its backend.
        backend: BackendId,
        /// Whether it is drained first.
        #[serde(rename = "now", default)]
        removal: Removal,
    },
    /// All ready backends of the selection are drained.
    Drain(Selection),
    /// All backends of the selection that drain or are in maintenance become ready.
    Ready(Selection),
    /// The configuration file is read again. Who reads it makes [`Change::ReplaceAll`] of this.
    Reload {
        /// What becomes of backends that the file no longer has.
        #[serde(rename = "now", default)]
        removal: Removal,
        /// Whether a file is obeyed that takes away so much that it looks like a mistake.
        #[serde(default)]
        force: bool,
    },
    /// Drains are over: backends that leave are gone, the others in maintenance. Backends that do not drain stay.
    #[serde(skip)]
    EndDrains(Vec<(ServiceName, BackendId)>),
    /// Everything becomes what a configuration file or a checkpoint says.
    #[serde(skip)]
    ReplaceAll(Services, Removal),
}

/// How a backend goes. Operators say whether it goes "now".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Removal {
    /// It takes no new flows and goes when its drain is over.
    #[default]
    Drain,
    /// At once; its flows are cut.
    Now,
}

impl From<bool> for Removal {
    fn from(now: bool) -> Self {
        if now { Self::Now } else { Self::Drain }
    }
}

impl From<Removal> for bool {
    fn from(removal: Removal) -> Self {
        removal == Removal::Now
    }
}

/// Several backends at once: either all of a host, or all of a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// The address that they have: one host in all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// The zone that they are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// Only those of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Only of a drain: when it ends at the latest, if that is not when the backends' services say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
}

impl Selection {
    /// All backends with that address.
    pub fn of_host(host: IpAddr) -> Self {
        Self {
            host: Some(host),
            ..Self::default()
        }
    }

    /// All backends of that zone.
    pub fn of_zone(zone: Zone) -> Self {
        Self {
            zone: Some(zone),
            ..Self::default()
        }
    }

    /// Whether it may have backends in that service.
    pub fn reaches(&self, service: &ServiceName) -> bool {
        self.service.as_ref().is_none_or(|only| only == service)
    }

    /// Whether it has the backends with that address and zone of a service that it reaches.
    pub fn has(&self, address: IpAddr, zone: Option<&Zone>) -> bool {
        self.host.is_none_or(|host| host == address)
            && self.zone.as_ref().is_none_or(|wanted| zone == Some(wanted))
    }

    /// Refuses what does not say, or says twice, which backends are meant.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.host.is_some() == self.zone.is_some() {
            return Err(Invalid::new("expected either `host` or `zone`"));
        }
        Ok(())
    }

    /// Refuses the deadline of a drain where nothing is drained.
    pub(super) fn check_without_deadline(&self) -> Result<(), Invalid> {
        self.check()?;
        match self.deadline {
            None => Ok(()),
            Some(_) => Err(Invalid::new("`deadline` is that of a drain: leave it out")),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.host {
            write!(f, "the address {address}")?;
        }
        if let Some(zone) = &self.zone {
            write!(f, "the zone {zone}")?;
        }
        match &self.service {
            Some(service) => write!(f, " in service {service}"),
            None => Ok(()),
        }
    }
}
