//! One service: what clients talk to, and how their packets reach its backends.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Affinity, Backend, BackendId, Forwarder, Invalid, Key, MAX_BACKENDS, MAX_VIPS, OnEmpty, Protocol,
    Scheduler, ServiceName, ServicePort, Span, Tracking,
};
use crate::health::{Check, Kind};

/// A service as the operator declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name, unique within the agent.
    pub name: ServiceName,
    /// The addresses that clients use, of either family.
    pub vips: Vec<IpAddr>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port that clients use.
    pub port: ServicePort,
    /// How packets reach the backends.
    pub forwarder: Forwarder,
    /// How new flows are spread.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// What of a packet decides its backend.
    #[serde(default)]
    pub affinity: Affinity,
    /// What happens while no backend is usable.
    #[serde(default)]
    pub on_empty: OnEmpty,
    /// Slots of its table: a power of two from 64 to 65,536; by default sized by the number of backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Which flows are written down, so that they keep their backend.
    #[serde(default)]
    pub tracking: Tracking,
    /// How long after a slot's last change flows that are silent still belong to its previous owner; absent:
    /// [`Service::window_in_use`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// How long a flow may be silent before its entry in the flow table is dropped; absent:
    /// [`Service::idle_in_use`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Span>,
    /// When a drain ends at the latest, flows left or not; absent: [`Service::drain_deadline_in_use`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_deadline: Option<Span>,
    /// How its backends are checked; absent means a check that fits the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// The hosts that serve it.
    #[serde(default, rename = "backend")]
    pub backends: Vec<Backend>,
}

impl Service {
    /// Smallest slot table that may be asked for.
    pub const MIN_SLOTS: u32 = 64;
    /// Largest slot table.
    pub const MAX_SLOTS: u32 = 65_536;

    /// Brings equal wishes to one form and checks the rules that concern this service alone.
    pub(super) fn normalised(mut self) -> Result<Self, Invalid> {
        for backend in &mut self.backends {
            if backend.port == self.port.exact() {
                backend.port = None;
            }
        }
        self.check_vips()?;
        self.check_slots()?;
        self.check_times()?;
        self.check_check()?;
        self.check_backends()?;
        Ok(self)
    }

    /// The check in use: the one that was asked for, or else one that fits. A UDP port does not tell whether anybody
    /// listens there, and "any" is no port to connect to; there the host is pinged.
    pub fn check_in_use(&self) -> Check {
        let fitting = match (self.protocol, self.port) {
            (Protocol::Tcp, ServicePort::Exact(_)) => Kind::Tcp,
            (Protocol::Tcp, ServicePort::Any) | (Protocol::Udp, _) => Kind::Ping,
        };
        self.check.clone().unwrap_or(Check {
            kind: fitting,
            ..Check::default()
        })
    }

    /// The window in use: two minutes for TCP; for UDP, where new flows cannot be told from old ones and go to the
    /// previous owner as well, ten seconds. No longer than an idle time that is asked for.
    pub fn window_in_use(&self) -> Duration {
        let fitting = match self.protocol {
            Protocol::Tcp => Duration::from_secs(120),
            Protocol::Udp => Duration::from_secs(10),
        };
        let fitting = self.idle.map_or(fitting, |idle| fitting.min(idle.get()));
        self.window.map_or(fitting, Span::get)
    }

    /// The idle time in use: a quarter of an hour for TCP, two minutes for UDP. No shorter than a window that is asked
    /// for.
    pub fn idle_in_use(&self) -> Duration {
        let fitting = match self.protocol {
            Protocol::Tcp => Duration::from_secs(900),
            Protocol::Udp => Duration::from_secs(120),
        };
        let fitting = self.window.map_or(fitting, |window| fitting.max(window.get()));
        self.idle.map_or(fitting, Span::get)
    }

    /// The deadline of drains in use: an hour.
    pub fn drain_deadline_in_use(&self) -> Duration {
        self.drain_deadline.map_or(Duration::from_secs(3600), Span::get)
    }

    /// Refuses what no operator can ask for.
    pub(crate) fn check_wished(&self) -> Result<(), Invalid> {
        for (i, backend) in self.backends.iter().enumerate() {
            let here = |e: Invalid| e.at(Key::Index(i)).at(Key::Name("backend"));
            backend.check_wished().map_err(here)?;
        }
        Ok(())
    }

    /// The backend of that name.
    pub fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.backends.iter().find(|b| b.id() == self.normal_id(id))
    }

    /// `id` without a port that says no more than the service's own.
    pub fn normal_id(&self, id: BackendId) -> BackendId {
        if id.port == self.port.exact() {
            BackendId { port: None, ..id }
        } else {
            id
        }
    }

    fn check_vips(&self) -> Result<(), Invalid> {
        let vips = Key::Name("vips");
        if self.vips.is_empty() || self.vips.len() > MAX_VIPS {
            let count = self.vips.len();
            return Err(Invalid::new(format!("expected 1 to {MAX_VIPS} addresses, found {count}")).at(vips));
        }
        let mut seen = HashSet::new();
        for (i, vip) in self.vips.iter().enumerate() {
            check_unicast(*vip).map_err(|e| e.at(Key::Index(i)).at(vips.clone()))?;
            if !seen.insert(vip) {
                return Err(Invalid::new(format!("{vip} is listed twice"))
                    .at(Key::Index(i))
                    .at(vips));
            }
            let nat_twin = self.forwarder == Forwarder::Nat
                && self.vips[..i]
                    .iter()
                    .any(|earlier| earlier.is_ipv4() == vip.is_ipv4());
            if nat_twin {
                let message = "the nat forwarder takes one VIP of each family: answers could not tell which VIP to \
                               restore; declare one service per VIP, with backends on different ports";
                return Err(Invalid::new(message).at(Key::Index(i)).at(vips));
            }
        }
        Ok(())
    }

    fn check_slots(&self) -> Result<(), Invalid> {
        match self.slots {
            Some(n) if !n.is_power_of_two() || !(Self::MIN_SLOTS..=Self::MAX_SLOTS).contains(&n) => {
                let (min, max) = (Self::MIN_SLOTS, Self::MAX_SLOTS);
                Err(
                    Invalid::new(format!("{n}: expected a power of two from {min} to {max}"))
                        .at(Key::Name("slots")),
                )
            }
            _ => Ok(()),
        }
    }

    /// An entry must outlive the window: a flow that began at a slot's new owner would be taken for one of the old.
    /// A deadline shorter than either is fine: to cut what is left is what it is for.
    fn check_times(&self) -> Result<(), Invalid> {
        match (self.window, self.idle) {
            (Some(window), Some(idle)) if idle < window => {
                let message = format!(
                    "{idle} is less than the window of {window}, in which flows are still told apart by their \
                     entries: expected at least {window}"
                );
                Err(Invalid::new(message).at(Key::Name("idle")))
            }
            _ => Ok(()),
        }
    }

    fn check_check(&self) -> Result<(), Invalid> {
        let Some(check) = &self.check else { return Ok(()) };
        let here = Key::Name("check");
        if let Err(error) = check.validate() {
            return Err(Invalid::new(error.message).at(Key::Name(error.key)).at(here));
        }
        if check.needs_port() && check.port.is_none() && self.port == ServicePort::Any {
            let message =
                "a service with any port has none to check: expected a `port`, or the type \"ping\"";
            return Err(Invalid::new(message).at(Key::Name("port")).at(here));
        }
        Ok(())
    }

    fn check_backends(&self) -> Result<(), Invalid> {
        if self.backends.len() > MAX_BACKENDS {
            let count = self.backends.len();
            return Err(
                Invalid::new(format!("{count} backends, at most {MAX_BACKENDS}")).at(Key::Name("backend"))
            );
        }
        let mut seen = HashSet::new();
        for (i, backend) in self.backends.iter().enumerate() {
            let here = |e: Invalid| e.at(Key::Index(i)).at(Key::Name("backend"));
            self.check_backend(backend).map_err(here)?;
            if !seen.insert(backend.id()) {
                return Err(here(
                    Invalid::new(format!("{} is listed twice", backend.id())).at(Key::Name("address")),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn check_backend(&self, backend: &Backend) -> Result<(), Invalid> {
        check_unicast(backend.address).map_err(|e| e.at(Key::Name("address")))?;
        if backend.deadline.is_some() && !backend.drains() {
            let message = format!(
                "a deadline is that of a drain, and the state is {:?}: expected the state \"drain\", or no deadline",
                backend.state.to_string()
            );
            return Err(Invalid::new(message).at(Key::Name("deadline")));
        }
        if self.vips.contains(&backend.address) {
            let message = format!(
                "{} is a VIP of this service: expected the backend's own address",
                backend.address
            );
            return Err(Invalid::new(message).at(Key::Name("address")));
        }
        if backend.port.is_some() && (self.forwarder != Forwarder::Nat || self.port == ServicePort::Any) {
            let message = "only the nat forwarder translates ports, and only for a service with one port: leave \
                           `port` out";
            return Err(Invalid::new(message).at(Key::Name("port")));
        }
        let family = |a: &IpAddr| a.is_ipv4() == backend.address.is_ipv4();
        if self.forwarder == Forwarder::Nat && !self.vips.iter().any(family) {
            let message = format!(
                "{}: the nat forwarder needs a VIP of the same family",
                backend.address
            );
            return Err(Invalid::new(message).at(Key::Name("address")));
        }
        Ok(())
    }
}

fn check_unicast(address: IpAddr) -> Result<(), Invalid> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || broadcast
        || link_local
        || mapped
    {
        return Err(Invalid::new(format!(
            "{address}: expected a routable unicast address"
        )));
    }
    Ok(())
}

/// The parts of a service that `set` may change; absent parts stay. A JSON merge patch (RFC 7396): `null` for a part
/// that may be left out takes it back to its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePatch {
    /// New VIPs, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vips: Option<Vec<IpAddr>>,
    /// New forwarder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarder: Option<Forwarder>,
    /// New scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// New affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// New behaviour without usable backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_empty: Option<OnEmpty>,
    /// New table size; `Some(None)`: by the number of backends.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub slots: Option<Option<u32>>,
    /// New tracking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Tracking>,
    /// New window; `Some(None)`: the one that fits the protocol.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub window: Option<Option<Span>>,
    /// New idle time; `Some(None)`: the one that fits the protocol.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub idle: Option<Option<Span>>,
    /// New deadline of drains; `Some(None)`: the default.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub drain_deadline: Option<Option<Span>>,
    /// New check, all of it; `Some(None)`: the one that fits the protocol.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub check: Option<Option<Check>>,
}

/// Tells a key that is `null` (`Some(None)`) from one that is absent (`None`).
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl ServicePatch {
    pub(super) fn apply(self, service: &mut Service) {
        let Self {
            vips,
            forwarder,
            scheduler,
            affinity,
            on_empty,
            slots,
            tracking,
            window,
            idle,
            drain_deadline,
            check,
        } = self;
        service.forwarder = forwarder.unwrap_or(service.forwarder);
        service.scheduler = scheduler.unwrap_or(service.scheduler);
        service.affinity = affinity.unwrap_or(service.affinity);
        service.on_empty = on_empty.unwrap_or(service.on_empty);
        service.slots = slots.unwrap_or(service.slots);
        service.tracking = tracking.unwrap_or(service.tracking);
        service.window = window.unwrap_or(service.window);
        service.idle = idle.unwrap_or(service.idle);
        service.drain_deadline = drain_deadline.unwrap_or(service.drain_deadline);
        if let Some(vips) = vips {
            service.vips = vips;
        }
        if let Some(check) = check {
            service.check = check;
        }
    }
}
