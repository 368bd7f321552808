//! What a packet must meet, worked out from the desired state and the facts alone.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use lb_common::{abi::Reason, net::TCP};

use super::{
    frames::{Kind, Sample, Seen},
    steps::World,
};
use crate::desired::{Backend, Forwarder, OnEmpty, Protocol, Scheduler, Service, ServicePort, Shares, Vlan};
use crate::plan::{Layout, NextHop, Observed, PoolKey};

/// Whether a packet met what the desired state and the facts ask for.
pub(super) fn check(sample: &Sample, seen: &Seen, world: &World, layout: &Layout) {
    match sample.kind {
        Kind::ToService => check_to_service(sample, seen, world, layout),
        Kind::FromBackend => check_from_backend(sample, seen, world),
        Kind::Echo => {
            let vip = world.services.iter().any(|s| holds(s, sample.destination));
            assert_eq!(
                seen.reason == Reason::EchoReply,
                vip,
                "{sample:?} {:?}",
                seen.reason
            );
        }
        Kind::Fragment => {
            let ours = |s: &&Arc<Service>| holds(s, sample.destination) && speaks(s, sample);
            let vip = world.services.iter().any(|s| ours(&s));
            assert_eq!(
                seen.reason == Reason::Fragment,
                vip,
                "{sample:?} {:?}",
                seen.reason
            );
        }
    }
}

/// Whether `address` is a VIP of it.
fn holds(service: &Service, address: IpAddr) -> bool {
    service.vips.iter().any(|vip| vip.contains(address))
}

fn speaks(service: &Service, sample: &Sample) -> bool {
    (service.protocol == Protocol::Tcp) == (sample.protocol == TCP)
}

/// The service that says most exactly that it takes this packet.
fn service_of<'w>(sample: &Sample, world: &'w World) -> Option<&'w Arc<Service>> {
    let candidates = || {
        world
            .services
            .iter()
            .filter(|s| holds(s, sample.destination) && speaks(s, sample))
    };
    let longest = |s: &&Arc<Service>| {
        let holding = s.vips.iter().filter(|vip| vip.contains(sample.destination));
        holding.map(|vip| vip.length()).max()
    };
    // How many ports more than one it takes, if it takes this one.
    let width = |s: &&Arc<Service>| match s.port {
        ServicePort::Exact(port) => (port.get() == sample.ports[1]).then_some(0),
        ServicePort::Range(range) => {
            let width = u32::from(range.last().get() - range.first().get());
            range.contains(sample.ports[1]).then_some(width)
        }
        ServicePort::Any => Some(u32::MAX),
    };
    candidates()
        .filter(|s| width(s).is_some())
        .min_by_key(|s| (std::cmp::Reverse(longest(s)), width(s)))
}

fn check_to_service(sample: &Sample, seen: &Seen, world: &World, layout: &Layout) {
    let Some(service) = service_of(sample, world) else {
        assert_eq!(seen.reason, Reason::NoService, "{sample:?}");
        return;
    };
    assert_eq!(
        layout.service(seen.outcome.service_number()),
        Some(&service.name),
        "{sample:?}"
    );
    let denied = service
        .source
        .as_ref()
        .is_some_and(|source| !source.permits(sample.source));
    if denied || seen.reason == Reason::Denied {
        assert_eq!((denied, seen.reason), (true, Reason::Denied), "{sample:?}");
        return;
    }
    let vip = sample.destination;
    let usable = service.backends.iter().any(|b| world.takes(service, vip, b));
    let is_sent = matches!(seen.reason, Reason::Forwarded | Reason::Local);
    // What opens no flow may belong to one of a backend that takes no others.
    let may_be_old = !sample.opens && is_sent;
    if !usable && !may_be_old {
        let expected = match service.on_empty {
            OnEmpty::Drop => Reason::NoBackend,
            OnEmpty::Pass => Reason::EmptyPassed,
            OnEmpty::Reject => Reason::Rejected,
        };
        assert_eq!(seen.reason, expected, "{sample:?}");
        return;
    }
    assert!(is_sent, "{sample:?} {:?}", seen.reason);
    let backend_ref = layout
        .owner(seen.outcome.target)
        .expect("the target is somebody's");
    let backend = service
        .backend(backend_ref.backend)
        .expect("the backend is the service's");
    assert_eq!(backend_ref.service, service.name, "{sample:?}");
    let may = if sample.opens { World::takes } else { World::keeps };
    assert!(
        may(world, service, vip, backend),
        "{sample:?} went to {backend:?}"
    );
    let forwarder = backend.forwarder_in_use(service);
    assert_eq!(
        seen.reason == Reason::Local,
        forwarder == Forwarder::Local,
        "{sample:?}"
    );
    if forwarder == Forwarder::Local {
        assert_eq!(seen.frame, sample.frame(), "it stays as it came");
        return;
    }
    let hop = world.next_hop(backend.address).expect("its next hop is known");
    let frame = check_way(seen, &hop, backend.vlan);
    // The outermost destination, and the outermost ports where there are any.
    let (to, port) = match forwarder {
        Forwarder::L2dsr => (vip, Some(sample.ports[1])),
        Forwarder::Ipip | Forwarder::Gre => (backend.address, None),
        Forwarder::Gue | Forwarder::Fou => (backend.address, service.tunnel_port_in_use(forwarder)),
        Forwarder::Nat | Forwarder::Fullnat => {
            let port = backend.port.map_or(sample.ports[1], u16::from);
            (backend.address, Some(port))
        }
        Forwarder::Local => unreachable!("handled above"),
    };
    assert_eq!(addresses(&frame).1, to, "{sample:?}");
    if let Some(port) = port {
        assert_eq!(ports(&frame)[1], port, "{sample:?}");
    }
}

/// Checks MACs, tags and interface; the frame without its tags.
fn check_way(seen: &Seen, hop: &NextHop, vlan: Option<Vlan>) -> Vec<u8> {
    let egress = if hop.interface == 1 { 0 } else { hop.interface };
    assert_eq!(seen.outcome.egress, egress);
    assert_eq!(seen.frame[..6], hop.destination_mac);
    assert_eq!(seen.frame[6..12], hop.source_mac);
    let tags = match vlan {
        None => vec![],
        Some(Vlan::Tag(id)) => [&[0x81, 0][..], &id.get().to_be_bytes()].concat(),
        Some(Vlan::Stacked { outer, inner }) => {
            let [outer, inner] = [outer, inner].map(|id| id.get().to_be_bytes());
            [&[0x88, 0xa8][..], &outer, &[0x81, 0], &inner].concat()
        }
    };
    let (link, rest) = seen.frame.split_at(12);
    let rest = rest
        .strip_prefix(&tags[..])
        .expect("the tags that were asked for");
    [link, rest].concat()
}

fn check_from_backend(sample: &Sample, seen: &Seen, world: &World) {
    let candidates = || {
        let all = world.services.iter().filter(|s| speaks(s, sample));
        all.flat_map(|service| {
            let at =
                |b: &&Backend| b.address == sample.source && b.forwarder_in_use(service) == Forwarder::Nat;
            let backends = service.backends.iter().filter(at);
            backends.map(move |backend| (service, backend.port.or(service.port.exact())))
        })
    };
    let exact = candidates().find(|(_, port)| port.is_some_and(|port| port.get() == sample.ports[0]));
    let any = || candidates().find(|(_, port)| port.is_none());
    let Some((service, _)) = exact.or_else(any) else {
        assert_eq!(seen.reason, Reason::NoService, "{sample:?}");
        return;
    };
    if world.next_hop(sample.source).is_none() && seen.reason == Reason::NoService {
        // A backend that was never reached has nothing to answer.
        return;
    }
    assert_eq!(seen.reason, Reason::Returned, "{sample:?}");
    let (source, _) = addresses(&seen.frame);
    assert!(holds(service, source), "{sample:?} came back from {source}");
    let port = service.port.exact().map_or(sample.ports[0], u16::from);
    assert_eq!(ports(&seen.frame), [port, sample.ports[1]], "{sample:?}");
}

/// Whether the histories lead to the slots in use.
pub(super) fn check_histories(layout: &Layout) {
    for (key, placed) in layout.placed_pools.iter() {
        let has_one = placed.pool.service.scheduler == Scheduler::Consistent;
        assert_eq!(placed.history.is_some(), has_one, "{key:?}");
    }
    assert_eq!(layout.snapshot().check_histories(), Ok(()));
}

/// Whether slots follow weights, to within one where the scheduler says so.
pub(super) fn check_shares(world: &World, layout: &Layout) {
    for service in world.services.iter() {
        for vip in &service.vips {
            let is_part = |key: &PoolKey| key.v6_part == vip.is_ipv6();
            let key = match &PoolKey::of(service).collect::<Vec<_>>()[..] {
                [whole] => whole.clone(),
                parts => parts.iter().find(|key| is_part(key)).expect("a part").clone(),
            };
            let pool = layout.pool(&key).expect("every VIP has a pool");
            let usable = || {
                service
                    .backends
                    .iter()
                    .filter(|b| world.takes(service, vip.address(), b))
            };
            let sum: f64 = usable().map(|b| f64::from(b.weight)).sum();
            let owned: HashMap<_, usize> = pool.owned();
            let slots: usize = owned.values().sum();
            assert_eq!(slots, if sum > 0.0 { pool.slots() } else { 0 }, "{key:?}");
            if service.scheduler.shares() != Shares::Exact {
                continue;
            }
            for backend in &service.backends {
                let weight = if world.takes(service, vip.address(), backend) {
                    backend.weight
                } else {
                    0
                };
                let share = if sum > 0.0 {
                    f64::from(weight) / sum * pool.slots() as f64
                } else {
                    0.0
                };
                let has = owned.get(&backend.id()).copied().unwrap_or(0) as f64;
                assert!(
                    (has - share).abs() < 1.0,
                    "{key:?}: {has} slots for a share of {share}"
                );
            }
        }
    }
}

/// Source and destination of the frame's outermost IP header.
fn addresses(frame: &[u8]) -> (IpAddr, IpAddr) {
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    if frame[12] == 0x08 {
        (v4(26), v4(30))
    } else {
        (v6(22), v6(38))
    }
}

/// Ports of a frame without a tunnel.
fn ports(frame: &[u8]) -> [u16; 2] {
    let at = if frame[12] == 0x08 { 34 } else { 54 };
    [at, at + 2].map(|at| u16::from_be_bytes([frame[at], frame[at + 1]]))
}
