//! One service: what clients talk to, and how their packets reach its backends.

use std::{net::SocketAddr, num::NonZeroU16, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    AdminState, Affinity, Backend, BackendId, Forwarder, Fragments, Invalid, Key, MssClamp, OnEmpty, Prefix,
    Protocol, Quic, Scheduler, ServiceName, ServicePort, Source, Span, TrackingPolicy, TtlExpired, Unserved,
};
use lb_check::{Check, Kind, PingCheck, ProbeTarget, TcpCheck};

/// A service as the operator declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name, unique within the agent.
    pub name: ServiceName,
    /// The addresses that clients use, of either family: single ones, or all of a prefix.
    pub vips: Vec<Prefix>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port or ports that clients use.
    pub port: ServicePort,
    /// How packets reach the backends.
    pub forwarder: Forwarder,
    /// The UDP port of backends that its `gue` and `fou` tunnels end at; absent: [`Forwarder::default_tunnel_port`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel_port: Option<NonZeroU16>,
    /// How new flows are spread.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// What of a packet decides its backend.
    #[serde(default)]
    pub affinity: Affinity,
    /// What happens while no backend is usable.
    #[serde(default)]
    pub on_empty: OnEmpty,
    /// What happens to packets that are for one of its VIPs and for no service of it. Where services of a VIP differ, the
    /// last of pass, drop, reject counts.
    #[serde(default)]
    pub unserved: Unserved,
    /// What happens to packets that must not be forwarded any further.
    #[serde(default)]
    pub ttl_expired: TtlExpired,
    /// What becomes of the segment sizes in its SYNs.
    #[serde(default)]
    pub mss_clamp: MssClamp,
    /// How fragments find their backend.
    #[serde(default)]
    pub fragments: Fragments,
    /// Who may use it; absent: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// How QUIC packets are routed by connection ID; absent: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quic: Option<Quic>,
    /// Slots of its table: a power of two from 64 to 65,536; by default sized by the number of backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Which flows are written down, so that they keep their backend.
    #[serde(default)]
    pub tracking: TrackingPolicy,
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

    /// A service that asks for nothing but what it must say.
    pub fn new(
        name: ServiceName,
        vips: Vec<Prefix>,
        protocol: Protocol,
        port: ServicePort,
        forwarder: Forwarder,
    ) -> Self {
        Self {
            name,
            vips,
            protocol,
            port,
            forwarder,
            tunnel_port: None,
            scheduler: Scheduler::default(),
            affinity: Affinity::default(),
            on_empty: OnEmpty::default(),
            unserved: Unserved::default(),
            ttl_expired: TtlExpired::default(),
            mss_clamp: MssClamp::default(),
            fragments: Fragments::default(),
            source: None,
            quic: None,
            slots: None,
            tracking: TrackingPolicy::default(),
            window: None,
            idle: None,
            drain_deadline: None,
            check: None,
            backends: Vec::new(),
        }
    }

    /// The port that tunnels of that forwarder end at; `None` where they have none.
    pub fn tunnel_port_in_use(&self, forwarder: Forwarder) -> Option<u16> {
        let usual = forwarder.default_tunnel_port()?;
        Some(self.tunnel_port.map_or(usual, NonZeroU16::get))
    }

    /// Whether that is how packets reach some backend of it, or would reach one that says nothing else.
    pub fn uses(&self, forwarder: Forwarder) -> bool {
        self.forwarder == forwarder || self.backends.iter().any(|b| b.forwarder == Some(forwarder))
    }

    /// Whether packets of its two families may reach different backends: those whose forwarder translates addresses
    /// serve the VIPs of their own family only.
    pub fn splits_by_family(&self) -> bool {
        let translates = |backend: &Backend| backend.forwarder_in_use(self).translates();
        self.forwarder.translates() || self.backends.iter().any(translates)
    }

    /// The check in use: the one that was asked for, or else one that fits. A UDP port does not tell whether anybody
    /// listens there, and where there is more than one port, none is the one to connect to; there the host is pinged.
    pub fn check_in_use(&self) -> Check {
        let fitting = match (self.protocol, self.port) {
            (Protocol::Tcp, ServicePort::Exact(_)) => Kind::Tcp(TcpCheck),
            (Protocol::Tcp, ServicePort::Any | ServicePort::Range(_))
            | (Protocol::Udp | Protocol::Sctp, _) => Kind::Ping(PingCheck),
        };
        self.check.clone().unwrap_or(Check {
            kind: fitting,
            ..Check::default()
        })
    }

    /// The health check of a backend of this service; `None` where the backend has none, or is in maintenance. Equal ones are
    /// shared: a host that fails leaves all services that check it alike at once.
    pub fn probe_target(&self, backend: &Backend) -> Option<ProbeTarget> {
        if backend.state == AdminState::Maint {
            return None;
        }
        let port = backend.port.or(self.port.exact()).map_or(0, u16::from);
        ProbeTarget::new(SocketAddr::new(backend.address, port), &self.check_in_use())
    }

    /// The window in use: two minutes for TCP and SCTP; for UDP, where new flows cannot be told from old ones and go to the
    /// previous owner as well, ten seconds. No longer than an idle time that is asked for.
    pub fn window_in_use(&self) -> Duration {
        let fitting = match self.protocol {
            Protocol::Tcp | Protocol::Sctp => Duration::from_secs(120),
            Protocol::Udp => Duration::from_secs(10),
        };
        let fitting = self.idle.map_or(fitting, |idle| fitting.min(idle.get()));
        self.window.map_or(fitting, Span::get)
    }

    /// The idle time in use: a quarter of an hour for TCP and SCTP, two minutes for UDP. No shorter than a window that
    /// is asked for.
    pub fn idle_in_use(&self) -> Duration {
        let fitting = match self.protocol {
            Protocol::Tcp | Protocol::Sctp => Duration::from_secs(900),
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
    pub fn check_desired(&self) -> Result<(), Invalid> {
        for (i, backend) in self.backends.iter().enumerate() {
            let here = |e: Invalid| {
                e.at(Key::Backend(i, backend.id().to_string()))
                    .at(Key::Name("backend"))
            };
            backend.check_desired().map_err(here)?;
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
}

impl Backend {
    /// How packets of `service`, whose backend it is, reach it.
    pub fn forwarder_in_use(&self, service: &Service) -> Forwarder {
        self.forwarder.unwrap_or(service.forwarder)
    }
}
