//! The parts of a service that may change while it runs.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::{
    Affinity, Forwarder, Fragments, MssClamp, OnEmpty, Prefix, Quic, Scheduler, Service, Source, Span,
    TrackingPolicy, TtlExpired, Unserved,
    merge_patch::{not_null, or_default, present},
};
use lb_check::Check;

/// The parts of a service that `set` may change; absent parts stay. A JSON merge patch (RFC 7396): `null` for a part
/// that may be left out takes it back to its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePatch {
    /// New VIPs, all of them.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "not_null"
    )]
    pub vips: Option<Vec<Prefix>>,
    /// New forwarder.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "not_null"
    )]
    pub forwarder: Option<Forwarder>,
    /// New UDP port of its tunnels; `Some(None)`: the forwarder's.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub tunnel_port: Option<Option<NonZeroU16>>,
    /// New scheduler.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub scheduler: Option<Scheduler>,
    /// New affinity.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub affinity: Option<Affinity>,
    /// New behaviour without usable backends.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub on_empty: Option<OnEmpty>,
    /// New behaviour toward packets for its VIPs that no service takes.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub unserved: Option<Unserved>,
    /// New behaviour toward packets that have come too far.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub ttl_expired: Option<TtlExpired>,
    /// New bound of segment sizes.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub mss_clamp: Option<MssClamp>,
    /// New way of fragments.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub fragments: Option<Fragments>,
    /// New lists of clients, both of them; `Some(None)`: everybody.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub source: Option<Option<Source>>,
    /// New configurations of QUIC, all of them; `Some(None)`: no routing by connection ID.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub quic: Option<Option<Quic>>,
    /// New table size; `Some(None)`: by the number of backends.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub slots: Option<Option<u32>>,
    /// New tracking.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub tracking: Option<TrackingPolicy>,
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

impl ServicePatch {
    /// Makes of `service` what it asks for.
    pub fn apply(self, service: &mut Service) {
        let Self {
            vips,
            forwarder,
            tunnel_port,
            scheduler,
            affinity,
            on_empty,
            unserved,
            ttl_expired,
            mss_clamp,
            fragments,
            source,
            quic,
            slots,
            tracking,
            window,
            idle,
            drain_deadline,
            check,
        } = self;
        service.forwarder = forwarder.unwrap_or(service.forwarder);
        service.tunnel_port = tunnel_port.unwrap_or(service.tunnel_port);
        service.scheduler = scheduler.unwrap_or(service.scheduler);
        service.affinity = affinity.unwrap_or(service.affinity);
        service.on_empty = on_empty.unwrap_or(service.on_empty);
        service.unserved = unserved.unwrap_or(service.unserved);
        service.ttl_expired = ttl_expired.unwrap_or(service.ttl_expired);
        service.mss_clamp = mss_clamp.unwrap_or(service.mss_clamp);
        service.fragments = fragments.unwrap_or(service.fragments);
        service.slots = slots.unwrap_or(service.slots);
        service.tracking = tracking.unwrap_or(service.tracking);
        service.window = window.unwrap_or(service.window);
        service.idle = idle.unwrap_or(service.idle);
        service.drain_deadline = drain_deadline.unwrap_or(service.drain_deadline);
        if let Some(vips) = vips {
            service.vips = vips;
        }
        if let Some(source) = source {
            service.source = source;
        }
        if let Some(quic) = quic {
            service.quic = quic;
        }
        if let Some(check) = check {
            service.check = check;
        }
    }
}
