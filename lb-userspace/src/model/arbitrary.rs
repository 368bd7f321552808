//! Any services, for property tests: from small pools of addresses and ports, so that they often collide.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::health::{Check, HttpCheck, Kind};

/// A valid wish of up to eight services.
pub(crate) fn services() -> impl Strategy<Value = Services> {
    vec(service(), 0..8).prop_map(|list| {
        let add =
            |services: Services, service| services.after(Change::AddService(service)).unwrap_or(services);
        list.into_iter().fold(Services::default(), add)
    })
}

/// A service that may break rules.
pub(crate) fn service() -> impl Strategy<Value = Service> {
    let words = (
        select(&[Protocol::Tcp, Protocol::Udp]),
        select(&[Forwarder::L2dsr, Forwarder::Ipip, Forwarder::Nat]),
        select(&[Affinity::Flow, Affinity::ClientIp]),
        select(&[OnEmpty::Drop, OnEmpty::Pass]),
        option::of(select(&[64u32, 4096, 65_536])),
        select(&[Scheduler::Consistent, Scheduler::Maglev, Scheduler::Rendezvous]),
    );
    let times = (
        select(&[Tracking::Changes, Tracking::Always, Tracking::Never]),
        span(),
        span(),
        span(),
    );
    (
        name(),
        vec(address(0), 1..3),
        port(),
        (words, times),
        option::of(check()),
        vec(backend(), 0..6),
    )
        .prop_map(
            |(name, vips, port, (words, (tracking, window, idle, drain_deadline)), check, backends)| {
                let (protocol, forwarder, affinity, on_empty, slots, scheduler) = words;
                Service {
                    name,
                    vips,
                    protocol,
                    port: port.map_or(ServicePort::Any, ServicePort::Exact),
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
                    backends,
                }
            },
        )
}

/// A check of each kind; what else it may say is the heartbeats' to test.
fn check() -> impl Strategy<Value = Check> {
    let kinds = [
        Kind::None,
        Kind::Tcp,
        Kind::Ping,
        Kind::Http(HttpCheck::default()),
    ];
    select(kinds.to_vec()).prop_map(|kind| Check {
        kind,
        ..Check::default()
    })
}

/// A backend that may break rules, as an operator may ask for it.
pub(crate) fn backend() -> impl Strategy<Value = Backend> {
    let state = select(&[AdminState::Ready, AdminState::Drain, AdminState::Maint]);
    (
        address(1),
        port(),
        any::<u16>(),
        state,
        span(),
        option::of(zone()),
    )
        .prop_map(|(address, port, weight, state, deadline, zone)| Backend {
            address,
            port,
            weight,
            state,
            deadline: deadline.filter(|_| state == AdminState::Drain),
            zone,
        })
}

/// No span, or one of a few.
fn span() -> impl Strategy<Value = Option<Span>> {
    option::of(select(&["1s", "5s", "2m", "1h"]).prop_map(|text| text.parse().expect("a good span")))
}

/// One of a few zones.
pub(crate) fn zone() -> impl Strategy<Value = Zone> {
    "[xyz]".prop_map(|zone| zone.parse().expect("a good zone"))
}

/// One of a few names.
pub(crate) fn name() -> impl Strategy<Value = ServiceName> {
    "[a-f]".prop_map(|name| name.parse().expect("a good name"))
}

/// One of a few ports.
pub(crate) fn port() -> impl Strategy<Value = Option<std::num::NonZeroU16>> {
    select(&[0u16, 80, 443]).prop_map(std::num::NonZeroU16::new)
}

/// One of a few addresses of a subnet.
pub(crate) fn address(subnet: u8) -> impl Strategy<Value = std::net::IpAddr> {
    (any::<bool>(), 1u8..6).prop_map(move |(v4, host)| match v4 {
        true => Ipv4Addr::new(10, 0, subnet, host).into(),
        false => Ipv6Addr::new(0x2001, 0xdb8, subnet.into(), 0, 0, 0, 0, host.into()).into(),
    })
}
