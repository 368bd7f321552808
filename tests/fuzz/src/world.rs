//! What the packets meet: the services of `world.toml`, and the networks that the balancer and its clients are in.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::Result;
use lb_core::desired::{AdminState, Forwarder, Prefix, Service, Services, Vlan};
use lb_core::plan::Capacity;
use lb_userspace::config::Config;
use lb_world::{Interfaces, SourcePool, Surroundings, World};

/// The balancer's own addresses on its front interface, and the router's there.
pub(super) const OWN4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(super) const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1);
pub(super) const OWN: [IpAddr; 2] = [IpAddr::V4(OWN4), IpAddr::V6(OWN6)];
pub(super) const ROUTER: [&str; 2] = ["198.18.0.2", "2001:db8:99::2"];
/// Prefixes that the outer source addresses of tunnels are of.
const TUNNEL_SOURCES: [&str; 2] = ["172.16.0.0/16", "2001:db8:7::/96"];
/// Table sizes.
const CAPACITY: Capacity = Capacity {
    services: 64,
    targets: 128,
    slots: 16_384,
    flows: 65_536,
    nat_flows: 4096,
};
/// The MTU of the interfaces without tags.
pub(super) const MTU: u32 = 1500;
/// Clients behind tags: their networks, and what frames to them carry and may be long.
pub(super) const TAGGED: [&str; 2] = ["100.96.0.0/11", "2001:db8:d:2::/64"];
pub(super) const TAGGED_VLANS: [u16; 2] = [200, 300];
pub(super) const TAGGED_MTU: u32 = 1400;

/// The world of `world.toml`, with those interfaces.
///
/// # Errors
/// When `world.toml` is no configuration.
pub(super) fn world(interfaces: Interfaces) -> Result<World> {
    let config = Config::parse(include_str!("world.toml"), Path::new("world.toml"))?;
    let before = config.services.iter().map(|service| earlier(service));
    let history = [Services::new(before.collect())?, config.services.clone()];
    let ports = config.dataplane.fullnat_ports;
    let source_pool = SourcePool {
        addresses: config.dataplane.fullnat_addresses.clone(),
        ports: ports.first().get()..=ports.last().get(),
    };
    let surroundings = Surroundings::new(interfaces, TUNNEL_SOURCES)?;
    World::new(&history, CAPACITY, surroundings, source_pool)
}

/// The longest packet that reaches that client, and the tags that it carries there.
pub(super) fn way_to_client(client: IpAddr) -> (usize, Option<Vlan>) {
    if !is_tagged(client) {
        return (MTU as usize, None);
    }
    let [outer, inner] = TAGGED_VLANS;
    (TAGGED_MTU as usize, format!("{outer}.{inner}").parse().ok())
}

/// Whether that is a VIP of a `fullnat` service, whose backends see other clients than there are.
pub(super) fn is_vip_of_fullnat(world: &World, vip: IpAddr) -> bool {
    let mut pools = world
        .pools
        .iter()
        .filter(|pool| pool.service.uses(Forwarder::Fullnat));
    pools.any(|pool| pool.vips.iter().any(|prefix| prefix.contains(vip)))
}

/// Whether that address is a host's somewhere behind a router, so that the way there is known.
pub(super) fn is_ordinary(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !matches!(
            v4.octets(),
            [0 | 127 | 224.., ..] | [169, 254, ..] | [198, 18, ..]
        ),
        IpAddr::V6(v6) => {
            v6.segments()[0] >> 13 == 1 && !matches!(v6.segments(), [0x2001, 0xdb8, 0x98 | 0x99, ..])
        }
    }
}

/// Whether that client is behind tags.
pub(super) fn is_tagged(client: IpAddr) -> bool {
    let holds = |network: &str| {
        network
            .parse()
            .is_ok_and(|network: Prefix| network.contains(client))
    };
    TAGGED.into_iter().any(holds)
}

/// A service as it was before it changed, by its name.
fn earlier(service: &Service) -> Service {
    let mut service = service.clone();
    if service.name.as_str().starts_with("moved") {
        service.backends.truncate(2);
        for backend in &mut service.backends {
            backend.state = AdminState::Ready;
        }
    }
    service
}
