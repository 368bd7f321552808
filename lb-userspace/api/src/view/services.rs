//! Services and their backends.

use std::{net::IpAddr, num::NonZeroU16};

use serde::{Deserialize, Serialize};

use super::drains::DrainView;
use crate::quic::QuicView;
use lb_check::Check;
use lb_core::desired::{
    Affinity, Forwarder, Fragments, MssClamp, OnEmpty, Prefix, Protocol, Scheduler, ServerId, ServicePort,
    Source, Span, TrackingPolicy, TtlExpired, Unserved, Vlan, Zone,
};
use lb_core::plan::BackendState;

/// Something that is asked for and not done now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutageView {
    /// What fails.
    pub what: String,
    /// What follows from that, and why it fails.
    pub reason: String,
    /// Since when, in seconds since 1970-01-01 UTC.
    pub since: f64,
}

/// All services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicesView {
    /// The generation they were read at.
    pub generation: u64,
    /// What keeps packets from being balanced, whatever the states of backends are.
    #[serde(default)]
    pub outages: Vec<OutageView>,
    /// By name.
    pub services: Vec<ServiceView>,
}

/// One service and its current state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// The addresses that clients use.
    pub vips: Vec<Prefix>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port or ports that clients use.
    pub port: ServicePort,
    /// How packets reach the backends that say nothing else.
    pub forwarder: Forwarder,
    /// The UDP port that its tunnels end at, where the operator named one.
    #[serde(default)]
    pub tunnel_port: Option<NonZeroU16>,
    /// How new flows are spread.
    pub scheduler: Scheduler,
    /// What of a packet decides its backend.
    pub affinity: Affinity,
    /// What happens while no backend is usable.
    pub on_empty: OnEmpty,
    /// What happens to packets that are for one of its VIPs and for no service of it.
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
    #[serde(default)]
    pub source: Option<Source>,
    /// How QUIC packets are routed by connection ID; absent: they are not.
    #[serde(default)]
    pub quic: Option<QuicView>,
    /// Which flows are written down, so that they keep their backend.
    pub tracking: TrackingPolicy,
    /// How long after a slot's last change its silent flows still belong to the previous owner.
    pub window: Span,
    /// How long a flow may be silent before it is forgotten.
    pub idle: Span,
    /// When a drain ends at the latest.
    pub drain_deadline: Span,
    /// How its backends are checked, where the operator said so.
    pub check: Option<Check>,
    /// The size of its slot table now.
    pub slots: u32,
    /// Packets sent to its backends.
    pub packets: u64,
    /// Bytes of these packets as they arrived, from the IP header on.
    pub bytes: u64,
    /// New flows (TCP SYNs) among these packets.
    pub flows: u64,
    /// The hosts that serve it.
    pub backends: Vec<BackendView>,
}

/// One backend of a service and its current state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendView {
    /// The host's address.
    pub address: IpAddr,
    /// The port that it listens on, where that is not the service's.
    pub port: Option<NonZeroU16>,
    /// Its wanted part of the new flows.
    pub weight: u16,
    /// Its state.
    pub state: BackendState,
    /// The label that it shares with others.
    #[serde(default)]
    pub zone: Option<Zone>,
    /// How packets reach it where that is not the service's way.
    #[serde(default)]
    pub forwarder: Option<Forwarder>,
    /// The VLAN tags of packets toward it, where the operator named them.
    #[serde(default)]
    pub vlan: Option<Vlan>,
    /// What names it in QUIC connection IDs.
    #[serde(default)]
    pub server_id: Option<ServerId>,
    /// Progress of the drain, while the backend drains.
    #[serde(default)]
    pub drain: Option<DrainView>,
    /// Why it is in that state, where there is more to say.
    pub reason: Option<String>,
    /// Since when, in seconds since 1970-01-01 UTC.
    pub since: f64,
    /// The fraction of the service's slots that it holds now, 0 to 1.
    pub share: f64,
    /// Packets sent to it for this service.
    pub packets: u64,
    /// Bytes of these packets as they arrived, from the IP header on.
    pub bytes: u64,
    /// New flows (TCP SYNs) among these packets.
    pub flows: u64,
    /// Packets a second, over the last few seconds.
    pub packets_per_second: f64,
    /// Bits a second, over the last few seconds.
    pub bits_per_second: f64,
    /// New flows a second, over the last few seconds.
    pub flows_per_second: f64,
}
