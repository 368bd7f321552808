//! The services that are balanced: all forwarders, schedulers and ways to track, and both families.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    time::Duration,
};

use anyhow::Result;
use lb_check::{Check, Kind, NoCheck};
use lb_core::desired::{
    Affinity, Backend, Forwarder, Prefix, Protocol, Scheduler, Service, ServicePort, Span, TrackingPolicy,
};

use super::hosts::Host;

/// A service as it is at the start.
pub(super) struct Plot {
    name: &'static str,
    protocol: Protocol,
    forwarder: Forwarder,
    scheduler: Scheduler,
    affinity: Affinity,
    tracking: TrackingPolicy,
    /// Its hosts are those from the first number on.
    hosts: std::ops::Range<u16>,
    weight: u16,
    /// Its part of all flows.
    pub(super) part: u32,
}

const PLAIN: Plot = Plot {
    name: "web",
    protocol: Protocol::Tcp,
    forwarder: Forwarder::L2dsr,
    scheduler: Scheduler::Consistent,
    affinity: Affinity::Flow,
    tracking: TrackingPolicy::Changes,
    hosts: 1..41,
    weight: 1,
    part: 30,
};

/// Seven services that differ in all that matters to their flows. Some hosts serve several of them.
pub(super) const MANY: &[Plot] = &[
    PLAIN,
    Plot {
        name: "api",
        forwarder: Forwarder::Ipip,
        scheduler: Scheduler::Maglev,
        hosts: 21..45,
        part: 15,
        ..PLAIN
    },
    Plot {
        name: "shop",
        forwarder: Forwarder::Nat,
        scheduler: Scheduler::Rendezvous,
        hosts: 31..51,
        part: 15,
        ..PLAIN
    },
    Plot {
        name: "login",
        forwarder: Forwarder::Ipip,
        affinity: Affinity::ClientIp,
        hosts: 41..47,
        part: 10,
        ..PLAIN
    },
    Plot {
        name: "chat",
        tracking: TrackingPolicy::Always,
        hosts: 51..61,
        part: 10,
        ..PLAIN
    },
    Plot {
        name: "dns",
        protocol: Protocol::Udp,
        hosts: 1..17,
        part: 10,
        ..PLAIN
    },
    Plot {
        name: "game",
        protocol: Protocol::Udp,
        forwarder: Forwarder::Nat,
        scheduler: Scheduler::Maglev,
        hosts: 61..69,
        part: 10,
        ..PLAIN
    },
];

/// One service with a hundred backends.
pub(super) const ONE: &[Plot] = &[Plot {
    hosts: 1..101,
    weight: 10,
    part: 1,
    ..PLAIN
}];

impl Plot {
    pub(super) const PORT: u16 = 443;

    /// The VIPs of the service of that number.
    pub(super) fn vips(number: u8) -> [IpAddr; 2] {
        [
            Ipv4Addr::new(192, 0, 2, 1 + number).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1 + u16::from(number)).into(),
        ]
    }

    /// The service as an operator would declare it.
    pub(super) fn service(&self, number: u8) -> Result<Service> {
        let port = NonZeroU16::new(Self::PORT).map_or(ServicePort::Any, ServicePort::Exact);
        let backend = |host| Backend {
            weight: self.weight,
            ..Backend::new(Host(host).backend())
        };
        let vips = Self::vips(number).map(Prefix::from).to_vec();
        Ok(Service {
            scheduler: self.scheduler,
            affinity: self.affinity,
            tracking: self.tracking,
            drain_deadline: Some(Span::nearest(Duration::from_secs(300))),
            check: Some(Check {
                kind: Kind::None(NoCheck),
                ..Check::default()
            }),
            backends: self.hosts.clone().map(backend).collect(),
            ..Service::new(self.name.parse()?, vips, self.protocol, port, self.forwarder)
        })
    }
}

/// The windows that an operator chooses from: the default one, and a shorter one.
pub(super) fn windows(protocol: Protocol) -> [Duration; 2] {
    match protocol {
        Protocol::Tcp | Protocol::Sctp => [Duration::from_secs(120), Duration::from_secs(90)],
        Protocol::Udp => [Duration::from_secs(10), Duration::from_secs(8)],
    }
}
