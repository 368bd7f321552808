//! The services that the rows' packets meet, in a world for each set of them.

use lb_core::desired::{Affinity, Backend, Forwarder, OnEmpty, Service, Services};
use lb_core::plan::{Capacity, Layout, Memory};
use lb_world::{Interfaces, Surroundings, World};

use super::{fullnat, options, quic, ranges, sources, tunnels};

/// The one source address of tunnels of each family.
const FIXED_TUNNEL_SOURCES: [&str; 2] = ["172.16.0.1/32", "2001:db8:7::1/128"];
/// Prefixes that the source addresses of tunnels are of, where they vary with the flow.
const VARIED_TUNNEL_SOURCES: [&str; 2] = ["172.16.0.0/16", "2001:db8:7::/96"];
/// The MTU of the link to some backends.
pub(crate) const SMALL: usize = lb_world::SMALL_MTU as usize;

/// A set of services. Rows name the one that they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceSet {
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

impl ServiceSet {
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

    /// Table sizes good for every set.
    pub(crate) const CAPACITY: Capacity = Capacity {
        services: 64,
        targets: 128,
        slots: 16_384,
        flows: 4096,
        nat_flows: 4096,
    };

    /// Lays the set out in `memory`, by the planner.
    pub(crate) fn lay_out(self, interfaces: Interfaces, memory: &mut impl Memory) -> Layout {
        let world = world(self.services(), Self::CAPACITY, interfaces, self.tunnel_sources());
        let layout = world.lay_out(memory).unwrap();
        if self == Self::Emptied {
            let emptied: Vec<u32> = layout.owners().map(|(index, _)| index).collect();
            assert_eq!(emptied.len(), 1);
            memory.write_target(emptied[0], &Default::default());
        }
        layout
    }

    fn tunnel_sources(self) -> [&'static str; 2] {
        match self {
            Self::Varied | Self::Tunnels => VARIED_TUNNEL_SOURCES,
            _ => FIXED_TUNNEL_SOURCES,
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

/// A world of those services alone, in tables of that size. Tunnels come from one address.
pub(crate) fn plain_world(services: Vec<Service>, capacity: Capacity, interfaces: Interfaces) -> World {
    world(services, capacity, interfaces, FIXED_TUNNEL_SOURCES)
}

fn world(
    services: Vec<Service>,
    capacity: Capacity,
    interfaces: Interfaces,
    tunnel_sources: [&str; 2],
) -> World {
    let services = Services::new(services).expect("the tests' services are valid");
    let surroundings = Surroundings::new(interfaces, tunnel_sources).unwrap();
    let world = World::new(&[services], capacity, surroundings, fullnat::source_pool());
    world.expect("the tests' services fit")
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
