//! What a backend's state is, from what its operator wants and what is observed.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::desired::{AdminState, Backend, Forwarder, Service};
use crate::plan::tables::target::{NextHop, TunnelSources, Way};

/// What the health check says of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// The health check is good, or the backend has none.
    Up,
    /// No health check has come back yet.
    Checking,
    /// The health check is bad.
    Down,
}

/// The state of a backend, as `lb list` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendState {
    /// It takes traffic.
    Up,
    /// Its health check is bad.
    Down,
    /// Its first health check has not come back yet.
    Checking,
    /// Its next hop is unknown.
    Unresolved,
    /// The operator drains it: it keeps its flows and gets no new ones.
    Drain,
    /// The operator took it out.
    Maint,
}

impl fmt::Display for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Checking => "checking",
            Self::Unresolved => "unresolved",
            Self::Drain => "drain",
            Self::Maint => "maint",
        })
    }
}

/// What the agent has observed when it plans.
pub trait Observed {
    /// What the health check says of that backend.
    fn availability(&self, service: &Service, backend: &Backend) -> Availability;
    /// The next hop on the way to that address, if it is known.
    fn next_hop(&self, address: IpAddr) -> Option<NextHop>;
    /// Whether that address is this host's own.
    fn is_own(&self, address: IpAddr) -> bool;
    /// Outer source addresses of tunnels.
    fn tunnel_sources(&self) -> &TunnelSources;
    /// The interface that traffic comes in by, if there is only one. Packets that leave by it need no redirect.
    fn only_interface(&self) -> Option<u32>;
}

/// The way to a backend that its forwarder can use. A packet that keeps its destination address must not be handed to a
/// gateway, and a packet that is left to this host must find the backend there.
pub(super) fn way(observed: &impl Observed, service: &Service, backend: &Backend) -> Option<Way> {
    let hop = || observed.next_hop(backend.address);
    match backend.forwarder_in_use(service) {
        Forwarder::Local => observed.is_own(backend.address).then_some(Way::Here),
        Forwarder::L2dsr => hop().filter(|hop| hop.on_link).map(Way::Hop),
        _ => hop().map(Way::Hop),
    }
}

/// The state of `backend`.
pub fn backend_state(observed: &impl Observed, service: &Service, backend: &Backend) -> BackendState {
    match (backend.state, observed.availability(service, backend)) {
        (AdminState::Maint, _) => BackendState::Maint,
        (AdminState::Drain | AdminState::Leaving, _) => BackendState::Drain,
        (AdminState::Ready, _) if way(observed, service, backend).is_none() => BackendState::Unresolved,
        (AdminState::Ready, Availability::Checking) => BackendState::Checking,
        (AdminState::Ready, Availability::Down) => BackendState::Down,
        (AdminState::Ready, Availability::Up) => BackendState::Up,
    }
}

/// Whether `backend` serves the flows that it has.
pub fn serves(observed: &impl Observed, service: &Service, backend: &Backend) -> bool {
    backend.state != AdminState::Maint
        && way(observed, service, backend).is_some()
        && observed.availability(service, backend) == Availability::Up
}
