//! What the rows' packets meet: services and backends, laid out by the real planner.

use std::{net::IpAddr, time::Instant};

use lb_common::abi::TagsEntry;
use lb_core::desired::{Affinity, Backend, Forwarder, OnEmpty, Service, Services};
use lb_core::plan::{
    Availability, Capacity, Layout, Memory, NextHop, Observed, Plan, TunnelSources, apply, pools,
};
use lb_packets::Mac;

use super::{fullnat, options, quic, ranges, sources, tunnels};

/// The flow hash's seed.
pub(crate) const SEED: u64 = 0x5eed_0f5e_ed0f_5eed;
/// The MAC of every interface of the balancer.
pub(crate) const OWN_MAC: Mac = [2, 0, 0, 0, 0, 0xaa];
/// The router's, behind which every client lives.
pub(crate) const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 0xcc];
/// Backends that are never reachable, by the last byte of their address.
const DOWN: u8 = 0xd0;
const UNRESOLVED: u8 = 0xd1;
/// The backend that is the balancer.
const OWN: u8 = 0xe0;
/// The backend behind the second interface.
pub(crate) const BEHIND_BACK: u8 = 0xb0;
/// Backends behind a link of a small MTU.
const SMALL_MTU: std::ops::RangeInclusive<u8> = 0x60..=0x6f;
/// That MTU.
pub(crate) const SMALL: usize = 600;

/// A set of services. Rows name the one that they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// Every kind of service; tunnels come from one address.
    Full,
    /// As full, but tunnels' sources vary with the flow.
    Varied,
    /// Every forwarder and its tags: see [`super::tunnels`]. Tunnels' sources vary with the flow.
    Tunnels,
    /// Ranges of ports and prefixes of addresses: see [`super::ranges`].
    Ranges,
    /// Lists of clients: see [`super::sources`].
    Lists,
    /// Services that are routed by QUIC connection IDs: see [`super::quic`].
    Quic,
    /// Services with options of their own: see [`super::options`].
    Options,
    /// `fullnat` alone: see [`super::fullnat`].
    FullNat,
    /// One `l2dsr` service, so that look-ups for any port and for answers are off.
    Plain,
    /// As plain, but the target was emptied behind the planner's back.
    Emptied,
    /// Nothing.
    Nothing,
}

impl World {
    pub(crate) const ALL: [Self; 11] = [
        Self::Full,
        Self::Varied,
        Self::Tunnels,
        Self::Ranges,
        Self::Lists,
        Self::Quic,
        Self::Options,
        Self::FullNat,
        Self::Plain,
        Self::Emptied,
        Self::Nothing,
    ];

    /// Table sizes good for every world.
    pub(crate) const CAPACITY: Capacity = Capacity {
        services: 64,
        targets: 128,
        slots: 16_384,
        flows: 4096,
        nat_flows: 4096,
    };

    /// Lays the world out in `memory`, by the planner.
    pub(crate) fn build(self, interfaces: Interfaces, memory: &mut impl Memory) -> Layout {
        let layout = lay_out(
            self.services(),
            &Self::CAPACITY,
            interfaces,
            self.tunnel_sources(),
            memory,
        );
        if self == Self::Emptied {
            let emptied: Vec<u32> = layout.owners().map(|(index, _)| index).collect();
            assert_eq!(emptied.len(), 1);
            memory.write_target(emptied[0], &Default::default());
        }
        layout
    }

    pub(crate) fn tunnel_sources(self) -> TunnelSources {
        let (v4, v6) = match self {
            Self::Varied | Self::Tunnels => ("172.16.0.0/16", "2001:db8:7::/96"),
            _ => ("172.16.0.1/32", "2001:db8:7::1/128"),
        };
        TunnelSources {
            v4: v4.parse().unwrap(),
            v6: v6.parse().unwrap(),
        }
    }

    fn services(self) -> Vec<Service> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Plain | Self::Emptied => {
                vec![service("plain", 1, "tcp", "80", Forwarder::L2dsr, &["10.0.0.1"])]
            }
            Self::Full | Self::Varied => full(),
            Self::Tunnels => tunnels::services(),
            Self::Ranges => ranges::services(),
            Self::Lists => sources::services(),
            Self::Quic => quic::services(),
            Self::Options => options::services(),
            Self::FullNat => fullnat::services(),
        }
    }
}

/// Lays services out in empty tables, by the planner.
pub(crate) fn lay_out(
    services: Vec<Service>,
    capacity: &Capacity,
    interfaces: Interfaces,
    sources: TunnelSources,
    memory: &mut (impl Memory + ?Sized),
) -> Layout {
    let services = Services::new(services).expect("the tests' services are valid");
    let observed = Fixed { interfaces, sources };
    let empty = Layout::new(*capacity, SEED);
    let plan = empty.plan(pools(&services, &observed), 1, Instant::now());
    let Plan { layout, writes } = plan.expect("the tests' services fit");
    apply(&writes, memory);
    layout
}

/// One line a service: name, last byte of its VIPs, protocol, port, forwarder, backends.
fn full() -> Vec<Service> {
    use Forwarder::{Ipip, L2dsr, Nat};
    let both = ["10.0.0.4", "2001:db8:b::4"];
    let other_port = ["10.0.0.5:8080", "[2001:db8:b::5]:8080"];
    let four = ["10.0.0.40", "10.0.0.41", "10.0.0.42", "10.0.0.43"];
    let mut all = vec![
        service("dsr-tcp", 1, "tcp", "80", L2dsr, &["10.0.0.1"]),
        service("dsr-udp", 1, "udp", "53", L2dsr, &["10.0.0.1"]),
        service("tunnel4-tcp", 2, "tcp", "80", Ipip, &["10.0.0.2"]),
        service("tunnel4-udp", 2, "udp", "53", Ipip, &["10.0.0.2"]),
        service("tunnel6-tcp", 3, "tcp", "80", Ipip, &["2001:db8:b::3"]),
        service("tunnel6-udp", 3, "udp", "53", Ipip, &["2001:db8:b::3"]),
        service("nat-tcp", 4, "tcp", "80", Nat, &both),
        service("nat-udp", 4, "udp", "53", Nat, &both),
        service("nat-port-tcp", 5, "tcp", "80", Nat, &other_port),
        service("nat-port-udp", 5, "udp", "53", Nat, &other_port),
        service("any-tcp", 6, "tcp", "any", L2dsr, &["10.0.0.6"]),
        service("exact-tcp", 6, "tcp", "80", Ipip, &["10.0.0.60"]),
        service(
            "any-nat-udp",
            7,
            "udp",
            "any",
            Nat,
            &["10.0.0.7", "2001:db8:b::7"],
        ),
        service("spread", 8, "tcp", "80", L2dsr, &four),
        service("sticky", 9, "tcp", "80", L2dsr, &four),
        service("empty", 10, "tcp", "80", L2dsr, &["10.0.0.208"]),
        service("empty-pass", 11, "tcp", "80", L2dsr, &["10.0.0.208"]),
        service("unresolved", 12, "tcp", "80", L2dsr, &["10.0.0.209"]),
        service("small-dsr", 13, "udp", "53", L2dsr, &["10.0.0.96"]),
        service("small-tunnel4", 14, "udp", "53", Ipip, &["10.0.0.97"]),
        service("small-tunnel6", 15, "udp", "53", Ipip, &["2001:db8:b::61"]),
        service(
            "small-nat",
            16,
            "udp",
            "53",
            Nat,
            &["10.0.0.98", "2001:db8:b::62"],
        ),
        service("udp-only", 17, "udp", "53", L2dsr, &["10.0.0.1"]),
        service("back-dsr", 18, "tcp", "80", L2dsr, &["10.0.0.176"]),
        service(
            "back-nat",
            19,
            "tcp",
            "80",
            Nat,
            &["10.0.1.176", "2001:db8:b::1:b0"],
        ),
        service("no-backends", 20, "tcp", "80", Nat, &[]),
    ];
    for service in &mut all {
        match service.name.as_str() {
            "sticky" => service.affinity = Affinity::ClientIp,
            "empty-pass" => service.on_empty = OnEmpty::Pass,
            _ => {}
        }
    }
    all
}

pub(crate) fn service(
    name: &str,
    vip: u8,
    protocol: &str,
    port: &str,
    forwarder: Forwarder,
    backends: &[&str],
) -> Service {
    let backend = |text: &&str| Backend::new(text.parse().unwrap());
    let vips = vec![
        format!("192.0.2.{vip}").parse().unwrap(),
        format!("2001:db8::{vip:x}").parse().unwrap(),
    ];
    let (name, protocol, port) = (
        name.parse().unwrap(),
        protocol.parse().unwrap(),
        port.parse().unwrap(),
    );
    Service {
        backends: backends.iter().map(backend).collect(),
        ..Service::new(name, vips, protocol, port, forwarder)
    }
}

/// The balancer's interfaces, by index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interfaces {
    /// Where packets come in, and where clients and most backends are.
    pub(crate) front: u32,
    /// Where the rest is.
    pub(crate) back: u32,
    /// Where answers go that leave by the front one with a tag.
    pub(crate) vlan: u32,
}

struct Fixed {
    interfaces: Interfaces,
    sources: TunnelSources,
}

impl Observed for Fixed {
    fn availability(&self, _: &Service, backend: &Backend) -> Availability {
        match last_byte(backend.address) {
            DOWN => Availability::Down,
            _ => Availability::Up,
        }
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        let Interfaces { front, back, .. } = self.interfaces;
        let last = last_byte(address);
        (last != UNRESOLVED).then_some(NextHop {
            interface: if last == BEHIND_BACK { back } else { front },
            destination_mac: backend_mac(address),
            source_mac: OWN_MAC,
            mtu: if SMALL_MTU.contains(&last) {
                SMALL as u32
            } else {
                1500
            },
            on_link: true,
            tags: TagsEntry::NONE,
        })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        last_byte(address) == OWN
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        &self.sources
    }

    fn only_interface(&self) -> Option<u32> {
        None
    }
}

fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

/// Where packets to a backend go next.
pub(crate) fn backend_mac(backend: IpAddr) -> Mac {
    [2, 0, 0, 0, u8::from(backend.is_ipv6()), last_byte(backend)]
}
