//! Any services, for property tests: from small pools of addresses and ports, so that they often collide.
#![expect(clippy::expect_used, reason = "for tests, also those of other crates")]

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use lb_check::{Check, Kind};

/// A valid desired state of up to eight services, of what the plan's own tests know the packets of.
pub fn services() -> impl Strategy<Value = Services> {
    vec(service(), 0..8).prop_map(valid)
}

/// A valid desired state of up to eight services that may ask for anything.
pub fn all_services() -> impl Strategy<Value = Services> {
    vec(any_service(), 0..8).prop_map(valid)
}

/// The services of `list` that can be added one after the other.
fn valid(list: Vec<Service>) -> Services {
    let add = |services: Services, service| services.after(Change::AddService(service)).unwrap_or(services);
    list.into_iter().fold(Services::default(), add)
}

/// A service that may break rules.
pub fn service() -> impl Strategy<Value = Service> {
    let words = (
        select(&[Protocol::Tcp, Protocol::Udp]),
        plain_forwarder(),
        select(&[Affinity::Flow, Affinity::ClientIp]),
        select(&[OnEmpty::Drop, OnEmpty::Pass]),
        option::of(select(&[64u32, 4096, 65_536])),
        select(Scheduler::ALL),
    );
    let times = (
        select(&[
            TrackingPolicy::Changes,
            TrackingPolicy::Always,
            TrackingPolicy::Never,
        ]),
        span(),
        span(),
        span(),
    );
    (
        name(),
        vec(vip(), 1..3),
        service_port(),
        (words, times),
        option::of(check()),
        vec(backend(), 0..6),
    )
        .prop_map(
            |(name, vips, port, (words, (tracking, window, idle, drain_deadline)), check, backends)| {
                let (protocol, forwarder, affinity, on_empty, slots, scheduler) = words;
                Service {
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
                    ..Service::new(name, vips, protocol, port, forwarder)
                }
            },
        )
}

/// A service that may ask for anything, and break rules.
pub fn any_service() -> impl Strategy<Value = Service> {
    let words = (
        select(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]),
        option::of(forwarder()),
        select(&[OnEmpty::Drop, OnEmpty::Pass, OnEmpty::Reject]),
        select(&[TtlExpired::Answer, TtlExpired::Drop]),
        select(&[Unserved::Pass, Unserved::Drop, Unserved::Reject]),
        select(&[MssClamp::Off, MssClamp::Auto, MssClamp::To(1360)]),
        select(&[Fragments::Follow, Fragments::Hash3, Fragments::Drop]),
    );
    let details = (
        option::of(select(&[
            "10.0.0.0/24",
            "10.0.0.0/30",
            "2001:db8::/64",
            "10.0.0.1",
        ])),
        option::of(select(&["1-1023", "80-90", "85-443", "80-80"])),
        option::of(select(&["allow", "deny"]).prop_map(source)),
        option::weighted(0.2, quic()),
        option::weighted(0.2, Just(std::num::NonZeroU16::MAX)),
        vec(any_backend(), 0..4),
    );
    (service(), words, details).prop_map(
        |(service, words, (vip, range, source, quic, tunnel_port, backends))| {
            let (protocol, forwarder, on_empty, ttl_expired, unserved, mss_clamp, fragments) = words;
            let mut vips = service.vips;
            vips.extend(vip.map(|vip| vip.parse::<Prefix>().expect("a good prefix")));
            let range = range.map(|range| range.parse().expect("a good range"));
            Service {
                vips,
                protocol,
                port: range.unwrap_or(service.port),
                forwarder: forwarder.unwrap_or(service.forwarder),
                on_empty,
                ttl_expired,
                unserved,
                mss_clamp: if protocol == Protocol::Tcp {
                    mss_clamp
                } else {
                    MssClamp::Off
                },
                fragments,
                source,
                quic,
                tunnel_port,
                backends,
                ..service
            }
        },
    )
}

fn forwarder() -> impl Strategy<Value = Forwarder> {
    use Forwarder::*;
    select(&[L2dsr, Ipip, Gue, Fou, Gre, Nat, Fullnat, Local])
}

fn source(list: &str) -> Source {
    let json = format!("{{\"{list}\": [\"192.0.2.0/24\", \"2001:db8::7\"]}}");
    serde_json::from_str(&json).expect("good lists")
}

fn quic() -> impl Strategy<Value = Quic> {
    let config = |(id, key): (u8, bool)| QuicConfig {
        id,
        server_id_length: 2,
        nonce_length: 8,
        key: key.then(|| "8f95f09245765f80256934e50c66207f".parse().expect("a good key")),
    };
    vec((0u8..7, any::<bool>()).prop_map(config), 1..3).prop_map(|configs| Quic { configs })
}

/// A backend that may ask for anything an operator may, and break rules.
pub fn any_backend() -> impl Strategy<Value = Backend> {
    let server_id =
        select(&["0001", "0002", "0003", "00"]).prop_map(|id| id.parse().expect("a good server ID"));
    let details = (
        option::weighted(0.3, forwarder()),
        option::weighted(0.7, server_id),
    );
    (backend(), details).prop_map(|(backend, (forwarder, server_id))| Backend {
        forwarder,
        server_id,
        ..backend
    })
}

/// A check of each kind; what else it may say is the health checks' to test.
fn check() -> impl Strategy<Value = Check> {
    select(Kind::defaults()).prop_map(|kind| Check {
        kind,
        ..Check::default()
    })
}

/// A backend that may break rules, as an operator may ask for it.
pub fn backend() -> impl Strategy<Value = Backend> {
    let state = select(&[AdminState::Ready, AdminState::Drain, AdminState::Maint]);
    (
        address(1),
        port(),
        any::<u16>(),
        state,
        span(),
        option::of(zone()),
        option::weighted(0.2, plain_forwarder()),
        option::weighted(0.2, vlan()),
    )
        .prop_map(
            |(address, port, weight, state, deadline, zone, forwarder, vlan)| Backend {
                weight,
                state,
                deadline: deadline.filter(|_| state == AdminState::Drain),
                zone,
                forwarder,
                vlan,
                ..Backend::new(BackendId { address, port })
            },
        )
}

/// A forwarder whose packets the plan's own tests know.
fn plain_forwarder() -> impl Strategy<Value = Forwarder> {
    use Forwarder::{Fou, Gre, Gue, Ipip, L2dsr, Local, Nat};
    select(&[L2dsr, Ipip, Gue, Fou, Gre, Nat, Local])
}

/// One tag or two.
fn vlan() -> impl Strategy<Value = Vlan> {
    select(&["100", "200.4094"]).prop_map(|text| text.parse().expect("a good VLAN"))
}

/// No span, or one of a few.
fn span() -> impl Strategy<Value = Option<Span>> {
    option::of(select(&["1s", "5s", "2m", "1h"]).prop_map(|text| text.parse().expect("a good span")))
}

/// One of a few zones.
pub fn zone() -> impl Strategy<Value = Zone> {
    "[xyz]".prop_map(|zone| zone.parse().expect("a good zone"))
}

/// One of a few names.
pub fn name() -> impl Strategy<Value = ServiceName> {
    "[a-f]".prop_map(|name| name.parse().expect("a good name"))
}

/// One of a few ports.
pub fn port() -> impl Strategy<Value = Option<std::num::NonZeroU16>> {
    select(&[0u16, 80, 443]).prop_map(std::num::NonZeroU16::new)
}

/// One of a few ports, ranges of ports that hold some of them, or any.
pub fn service_port() -> impl Strategy<Value = ServicePort> {
    let range = select(&["1-65535", "80-1000", "80-100", "443-450", "301-999"]);
    prop_oneof![
        3 => port().prop_map(|port| port.map_or(ServicePort::Any, ServicePort::Exact)),
        1 => range.prop_map(|range| range.parse().expect("a good range")),
    ]
}

/// One of a few VIPs, or a prefix that holds some of them.
pub fn vip() -> impl Strategy<Value = Prefix> {
    let prefix = select(&[
        "10.0.0.0/8",
        "10.0.0.0/29",
        "10.0.0.4/31",
        "2001:db8::/64",
        "2001:db8::4/127",
    ]);
    prop_oneof![
        3 => address(0).prop_map(Prefix::from),
        1 => prefix.prop_map(|prefix| prefix.parse().expect("a good prefix")),
    ]
}

/// One of a few addresses of a subnet.
pub fn address(subnet: u8) -> impl Strategy<Value = std::net::IpAddr> {
    (any::<bool>(), 1u8..6).prop_map(move |(v4, host)| match v4 {
        true => Ipv4Addr::new(10, 0, subnet, host).into(),
        false => Ipv6Addr::new(0x2001, 0xdb8, subnet.into(), 0, 0, 0, 0, host.into()).into(),
    })
}
