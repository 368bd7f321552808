//! The real kernel, in network namespaces: what the resolver says must be what the kernel does.

mod lab;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use lb_common::abi::TagsEntry;
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use self::lab::{Namespace, Net, hasten_neighbours, ip_command, set_sysctl};
use super::{
    InterfaceError, NextHop, NextHops, Resolution, ResolverHandle, SysctlFamily, find_interface,
    forwarding_enabled, monitor::Monitor, most_neighbours, resolver::spawn_with, spawn_resolver,
};
use crate::supervise::Vitals;

/// The kernel answers within milliseconds, but tries unanswered neighbours only every 5 s.
const PATIENCE: Duration = Duration::from_secs(20);

const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];
const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A balancer and a peer that are linked by `eth0`, 10.0.0.1 and fd00::1 here, 10.0.0.2 and fd00::2 there.
struct Pair {
    lb: Namespace,
    peer: Namespace,
}

impl Pair {
    fn new() -> Self {
        let pair = Self {
            lb: Namespace::new(),
            peer: Namespace::new(),
        };
        pair.lb.run(async |net| {
            net.add_veth("eth0", &pair.peer, "eth0").await;
            net.set_mac("eth0", LB_MAC).await;
            hasten_neighbours("eth0");
            net.up("eth0").await;
        });
        pair.peer.run(async |net| {
            net.set_mac("eth0", PEER_MAC).await;
            net.up("eth0").await;
            net.add_address("eth0", "10.0.0.2/24").await;
            net.add_address("eth0", "fd00::2/64").await;
        });
        pair.lb.run(async |net| {
            net.add_address("eth0", "10.0.0.1/24").await;
            net.add_address("eth0", "fd00::1/64").await;
        });
        pair
    }

    /// Links the two by `eth1` as well, 10.0.1.1 and fd01::1 here, 10.0.1.2 and fd01::2 there.
    fn add_second_link(&self) {
        self.lb.run(async |net| {
            net.add_veth("eth1", &self.peer, "eth1").await;
            net.up("eth1").await;
            net.add_address("eth1", "10.0.1.1/24").await;
            net.add_address("eth1", "fd01::1/64").await;
        });
        self.peer.run(async |net| {
            net.set_mac("eth1", OTHER_MAC).await;
            net.up("eth1").await;
            net.add_address("eth1", "10.0.1.2/24").await;
            net.add_address("eth1", "fd01::2/64").await;
        });
    }
}

/// A running resolver.
struct Running {
    handle: ResolverHandle,
    snapshots: watch::Receiver<NextHops>,
}

impl Running {
    fn start(addresses: &[&str]) -> Self {
        let (handle, snapshots) =
            spawn_resolver(Duration::ZERO, &Vitals::default()).expect("start the resolver");
        let running = Self { handle, snapshots };
        running.resolve(addresses);
        running
    }

    fn resolve(&self, addresses: &[&str]) {
        self.handle
            .set_addresses(addresses.iter().map(|text| ip(text)).collect())
            .expect("set the addresses");
    }

    /// Waits until the resolver says of `address` what `accept` is after.
    async fn wait_for(&mut self, address: &str, accept: impl Fn(&Resolution) -> bool) -> Resolution {
        let address = ip(address);
        let wanted = self
            .snapshots
            .wait_for(|snapshot| snapshot.get(&address).is_some_and(&accept));
        let outcome = match timeout(PATIENCE, wanted).await {
            Ok(snapshot) => Some(snapshot.expect("the resolver runs")[&address].clone()),
            Err(_) => None,
        };
        outcome.unwrap_or_else(|| {
            panic!(
                "gave up on {address}; the last snapshot: {:?}",
                self.snapshots.borrow()
            )
        })
    }

    async fn wait_for_mac(&mut self, address: &str, mac: [u8; 6]) -> NextHop {
        let resolved = self.wait_for(address, |it| {
            it.next_hop().is_some_and(|hop| hop.destination_mac == mac)
        });
        *resolved.await.next_hop().expect("a next hop")
    }

    async fn wait_for_reason(&mut self, address: &str, expected: &str) {
        self.wait_for(
            address,
            |it| matches!(it, Resolution::Unresolved { reason } if reason.contains(expected)),
        )
        .await;
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Polls until `condition` holds.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn resolves_neighbours_on_the_link_and_behind_gateways() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        net.set_route("192.0.2.0/24", "10.0.0.2", "eth0", Some(1400))
            .await;
        net.set_route("2001:db8::/32", "fd00::2", "eth0", Some(1300))
            .await;
        let interface_index = net.index("eth0").await;
        let mut resolver = Running::start(&["10.0.0.2", "fd00::2", "192.0.2.7", "2001:db8::7"]);
        for (address, gateway, mtu) in [
            ("10.0.0.2", None, 1500),
            ("fd00::2", None, 1500),
            ("192.0.2.7", Some(ip("10.0.0.2")), 1400),
            ("2001:db8::7", Some(ip("fd00::2")), 1300),
        ] {
            let next_hop = resolver.wait_for_mac(address, PEER_MAC).await;
            assert_eq!(
                next_hop,
                NextHop {
                    tags: TagsEntry::NONE,
                    interface_index,
                    destination_mac: PEER_MAC,
                    source_mac: LB_MAC,
                    mtu,
                    gateway
                },
                "{address}"
            );
        }
        assert_eq!(resolver.snapshots.borrow().len(), 4);
    });
}

#[test]
fn says_why_an_address_has_no_next_hop() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        net.up("lo").await;
        let mut resolver = Running::start(&[
            "10.0.0.1",
            "fd00::1",
            "10.0.0.9",
            "fd00::9",
            "198.51.100.1",
            "2001:db8::1",
        ]);
        for own in ["10.0.0.1", "fd00::1"] {
            resolver.wait_for(own, |it| *it == Resolution::Own).await;
        }
        resolver
            .wait_for_reason("198.51.100.1", "no route to 198.51.100.1")
            .await;
        resolver
            .wait_for_reason("2001:db8::1", "no route to 2001:db8::1")
            .await;
        resolver
            .wait_for_reason("10.0.0.9", "neighbour 10.0.0.9 on eth0 does not answer (FAILED)")
            .await;
        resolver
            .wait_for_reason("fd00::9", "neighbour fd00::9 on eth0 does not answer (FAILED)")
            .await;
    });
}

#[test]
fn notices_a_neighbour_that_comes_to_life() {
    let pair = Pair::new();
    pair.lb.run(async |_| {
        let mut resolver = Running::start(&["10.0.0.9", "fd00::9"]);
        resolver.wait_for_reason("10.0.0.9", "FAILED").await;
        resolver.wait_for_reason("fd00::9", "FAILED").await;
        pair.peer.run(async |net| {
            net.add_address("eth0", "10.0.0.9/24").await;
            net.add_address("eth0", "fd00::9/64").await;
        });
        resolver.wait_for_mac("10.0.0.9", PEER_MAC).await;
        resolver.wait_for_mac("fd00::9", PEER_MAC).await;
    });
}

#[test]
fn follows_a_neighbour_to_its_new_mac_address() {
    let pair = Pair::new();
    pair.lb.run(async |_| {
        let mut resolver = Running::start(&["10.0.0.2", "fd00::2"]);
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;
        resolver.wait_for_mac("fd00::2", PEER_MAC).await;
        pair.peer.run(async |net| net.set_mac("eth0", OTHER_MAC).await);
        resolver.wait_for_mac("10.0.0.2", OTHER_MAC).await;
        resolver.wait_for_mac("fd00::2", OTHER_MAC).await;
    });
}

#[test]
fn follows_a_route_to_another_interface_and_away() {
    let pair = Pair::new();
    pair.add_second_link();
    pair.lb.run(async |net| {
        let mut resolver = Running::start(&["192.0.2.7", "2001:db8::7"]);
        for (address, prefix, first, second) in [
            ("192.0.2.7", "192.0.2.0/24", "10.0.0.2", "10.0.1.2"),
            ("2001:db8::7", "2001:db8::/32", "fd00::2", "fd01::2"),
        ] {
            resolver.wait_for_reason(address, "no route").await;
            net.set_route(prefix, first, "eth0", None).await;
            resolver.wait_for_mac(address, PEER_MAC).await;
            net.set_route(prefix, second, "eth1", None).await;
            let next_hop = resolver.wait_for_mac(address, OTHER_MAC).await;
            assert_eq!(next_hop.gateway, Some(ip(second)));
            assert_eq!(next_hop.interface_index, net.index("eth1").await);
            net.remove_route(prefix).await;
            resolver.wait_for_reason(address, "no route").await;
        }
    });
}

#[test]
fn follows_a_next_hop_object_that_is_replaced() {
    let pair = Pair::new();
    pair.add_second_link();
    pair.lb.run(async |_| {
        ip_command("nexthop add id 4 via 10.0.0.2 dev eth0");
        ip_command("route add 192.0.2.0/24 nhid 4");
        ip_command("nexthop add id 6 via fd00::2 dev eth0");
        ip_command("route add 2001:db8::/32 nhid 6");
        let mut resolver = Running::start(&["192.0.2.7", "2001:db8::7"]);
        resolver.wait_for_mac("192.0.2.7", PEER_MAC).await;
        resolver.wait_for_mac("2001:db8::7", PEER_MAC).await;
        // The routes stay, and the kernel reports nothing of them.
        ip_command("nexthop replace id 4 via 10.0.1.2 dev eth1");
        ip_command("nexthop replace id 6 via fd01::2 dev eth1");
        resolver.wait_for_mac("192.0.2.7", OTHER_MAC).await;
        resolver.wait_for_mac("2001:db8::7", OTHER_MAC).await;
    });
}

#[test]
fn takes_a_next_hop_that_lives_among_equal_ones() {
    let pair = Pair::new();
    pair.add_second_link();
    pair.lb.run(async |_| {
        hasten_neighbours("eth1");
        for (route, addresses, first, second) in [
            (
                "192.0.2.0/24",
                ["192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10"],
                "10.0.0.9",
                "10.0.1.2",
            ),
            (
                "2001:db8::/32",
                ["2001:db8::7", "2001:db8::8", "2001:db8::9", "2001:db8::a"],
                "fd00::9",
                "fd01::2",
            ),
        ] {
            ip_command(&format!(
                "route add {route} nexthop via {first} dev eth0 nexthop via {second} dev eth1"
            ));
            let mut resolver = Running::start(&addresses);
            for address in addresses {
                let next_hop = resolver.wait_for_mac(address, OTHER_MAC).await;
                assert_eq!(next_hop.gateway, Some(ip(second)), "{address}");
            }
            // The other one comes to life, and the one in use dies.
            pair.peer.run(async |net| {
                net.add_address(
                    "eth0",
                    &format!("{first}/{}", if ip(first).is_ipv4() { 24 } else { 64 }),
                )
                .await;
                net.down("eth1").await;
            });
            for address in addresses {
                let next_hop = resolver.wait_for_mac(address, PEER_MAC).await;
                assert_eq!(next_hop.gateway, Some(ip(first)), "{address}");
            }
            pair.peer.run(async |net| {
                net.up("eth1").await;
                net.add_address("eth1", "fd01::2/64").await;
            });
        }
    });
}

#[test]
fn takes_a_next_hop_that_lives_in_a_group() {
    let pair = Pair::new();
    pair.add_second_link();
    pair.lb.run(async |_| {
        ip_command("nexthop add id 1 via 10.0.0.9 dev eth0");
        ip_command("nexthop add id 2 via 10.0.1.2 dev eth1");
        ip_command("nexthop add id 10 group 1/2");
        ip_command("route add 192.0.2.0/24 nhid 10");
        let addresses = ["192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10"];
        let mut resolver = Running::start(&addresses);
        for address in addresses {
            resolver.wait_for_mac(address, OTHER_MAC).await;
        }
        // The group loses the one that lives, and gets another.
        ip_command("nexthop add id 3 via 10.0.0.2 dev eth0");
        ip_command("nexthop replace id 10 group 1/3");
        for address in addresses {
            resolver.wait_for_mac(address, PEER_MAC).await;
        }
    });
}

#[test]
fn asks_with_its_own_addresses_where_rules_name_them() {
    let pair = Pair::new();
    pair.add_second_link();
    pair.lb.run(async |net| {
        net.add_address("eth0", "10.0.0.77/24").await;
        let addresses = ["192.0.2.7", "2001:db8::7"];
        let mut resolver = Running::start(&addresses);
        for address in addresses {
            resolver.wait_for_reason(address, "no route").await;
        }
        let interfaces = BTreeSet::from([net.index("eth0").await]);
        resolver
            .handle
            .set_gateway_interfaces(interfaces)
            .expect("set the interfaces");
        for rule in [
            "route add 192.0.2.0/24 via 10.0.0.2 table 100",
            "rule add from 10.0.0.77 lookup 100",
            "route add 2001:db8::/32 via fd00::2 dev eth0 table 100",
            "-6 rule add from fd00::1 lookup 100",
        ] {
            ip_command(rule);
        }
        for address in addresses {
            resolver.wait_for_mac(address, PEER_MAC).await;
        }
        // Packets that are forwarded have other sources: what is there for them counts first.
        net.set_route("192.0.2.0/24", "10.0.1.2", "eth1", None).await;
        resolver.wait_for_mac("192.0.2.7", OTHER_MAC).await;
        net.remove_route("192.0.2.0/24").await;
        resolver.wait_for_mac("192.0.2.7", PEER_MAC).await;
        ip_command("rule del from 10.0.0.77 lookup 100");
        resolver.wait_for_reason("192.0.2.7", "no route").await;
    });
}

#[test]
fn follows_an_interface_down_and_up() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        let mut resolver = Running::start(&["10.0.0.2"]);
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;
        net.down("eth0").await;
        resolver
            .wait_for_reason("10.0.0.2", "interface eth0 is down")
            .await;
        net.up("eth0").await;
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;

        pair.peer.run(async |net| net.down("eth0").await);
        resolver
            .wait_for_reason("10.0.0.2", "interface eth0 has no carrier")
            .await;
        pair.peer.run(async |net| net.up("eth0").await);
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;
    });
}

#[test]
fn takes_the_route_that_is_left_when_an_interface_goes_down() {
    let pair = Pair::new();
    pair.add_second_link();
    pair.lb.run(async |net| {
        // The IPv6 addresses of an interface that goes down are reported, which would hide that IPv4 routes are not.
        set_sysctl("ipv6/conf/eth0/disable_ipv6", "1");
        net.set_route("192.0.2.0/24", "10.0.0.2", "eth0", None).await;
        net.set_route("0.0.0.0/0", "10.0.1.2", "eth1", None).await;
        let mut resolver = Running::start(&["192.0.2.7"]);
        resolver.wait_for_mac("192.0.2.7", PEER_MAC).await;
        net.down("eth0").await;
        resolver.wait_for_mac("192.0.2.7", OTHER_MAC).await;
    });
}

#[test]
fn has_the_kernel_keep_neighbours_fresh_only_while_they_are_used() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        let mut resolver = Running::start(&["10.0.0.2", "fd00::2"]);
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;
        resolver.wait_for_mac("fd00::2", PEER_MAC).await;
        eventually("10.0.0.2 is managed", async || net.is_managed("10.0.0.2").await).await;
        eventually("fd00::2 is managed", async || net.is_managed("fd00::2").await).await;

        resolver.resolve(&["fd00::2"]);
        eventually("10.0.0.2 is handed back", async || {
            !net.is_managed("10.0.0.2").await
        })
        .await;
        assert!(
            net.neighbour("10.0.0.2").await.is_some(),
            "the entry itself is the kernel's to remove"
        );
        assert!(net.is_managed("fd00::2").await);
        let only: BTreeSet<IpAddr> = resolver.snapshots.borrow().keys().copied().collect();
        assert_eq!(only, BTreeSet::from([ip("fd00::2")]));
    });
}

/// The kernel counts over all network namespaces, and its limit is not this test's to change.
#[test]
fn resolves_more_neighbours_than_the_kernel_counts() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        let most = most_neighbours(SysctlFamily::V4).expect("a limit") as usize;
        let count = most + 300;
        assert!(count < 60_000, "a network of /16 is large enough");
        net.add_address("eth0", "10.7.0.1/16").await;
        let address = |i: usize| {
            let [.., high, low] = (256 + i).to_be_bytes();
            format!("10.7.{high}.{low}")
        };
        let addresses: Vec<String> = (0..count).map(address).collect();
        pair.peer.run(async |peer| {
            for address in &addresses {
                peer.add_address("eth0", &format!("{address}/32")).await;
            }
        });
        let all: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let mut resolver = Running::start(&all);
        for address in &all {
            resolver.wait_for_mac(address, PEER_MAC).await;
        }
        // One more is still found, by the host itself.
        let mut other = Running::start(&["10.0.0.2"]);
        other.wait_for_mac("10.0.0.2", PEER_MAC).await;
        resolver.resolve(&[]);
        eventually("all are given back", async || {
            let first = net.neighbour(all[0]).await;
            first.is_none_or(|entry| !entry.header.flags.contains(NeighbourFlags::ExtLearned))
        })
        .await;
    });
}

#[test]
fn leaves_an_operators_permanent_neighbour_alone() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        net.add_permanent_neighbour("eth0", "10.0.0.7", OTHER_MAC).await;
        net.add_permanent_neighbour("eth0", "fd00::7", OTHER_MAC).await;
        let before = [net.neighbour("10.0.0.7").await, net.neighbour("fd00::7").await];
        let mut resolver = Running::start(&["10.0.0.7", "fd00::7"]);
        resolver.wait_for_mac("10.0.0.7", OTHER_MAC).await;
        resolver.wait_for_mac("fd00::7", OTHER_MAC).await;
        // Dropping them must not touch them either; the address added after them shows that it was done.
        resolver.resolve(&["10.0.0.2"]);
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;
        for (address, before) in ["10.0.0.7", "fd00::7"].into_iter().zip(before) {
            let (before, after) = (
                before.expect("an entry"),
                net.neighbour(address).await.expect("an entry"),
            );
            assert_eq!(after.header, before.header, "{address}");
            assert_eq!(after.header.state, NeighbourState::Permanent, "{address}");
            assert!(!net.is_managed(address).await, "{address}");
        }
    });
}

#[test]
fn takes_over_an_entry_that_an_operator_makes_permanent_later() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        let mut resolver = Running::start(&["10.0.0.9"]);
        resolver.wait_for_reason("10.0.0.9", "FAILED").await;
        let index = net.index("eth0").await;
        let request = net
            .handle
            .neighbours()
            .add(index, ip("10.0.0.9"))
            .link_layer_address(&OTHER_MAC);
        request.replace().execute().await.expect("replace the neighbour");
        resolver.wait_for_mac("10.0.0.9", OTHER_MAC).await;
        resolver.resolve(&["10.0.0.2"]);
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;
        let entry = net.neighbour("10.0.0.9").await.expect("an entry");
        assert_eq!(entry.header.state, NeighbourState::Permanent);
    });
}

#[test]
fn asks_again_for_a_neighbour_that_was_deleted() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        let mut resolver = Running::start(&["10.0.0.2"]);
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;
        let entry = net.neighbour("10.0.0.2").await.expect("an entry");
        net.handle
            .neighbours()
            .del(entry)
            .execute()
            .await
            .expect("delete the neighbour");
        eventually("10.0.0.2 is managed again", async || {
            net.is_managed("10.0.0.2").await
        })
        .await;
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;
    });
}

#[test]
fn keeps_the_default_gateways_fresh() {
    let pair = Pair::new();
    pair.peer
        .run(async |net| net.add_address("eth0", "10.0.0.3/24").await);
    pair.lb.run(async |net| {
        net.set_route("::/0", "fd00::2", "eth0", None).await;
        let resolver = Running::start(&[]);
        let interfaces = BTreeSet::from([net.index("eth0").await]);
        resolver
            .handle
            .set_gateway_interfaces(interfaces)
            .expect("set the interfaces");
        eventually("fd00::2 is managed", async || net.is_managed("fd00::2").await).await;
        // A route that comes later, with two gateways.
        net.add_multipath_default(&[("10.0.0.2", "eth0"), ("10.0.0.3", "eth0")])
            .await;
        eventually("10.0.0.2 is managed", async || net.is_managed("10.0.0.2").await).await;
        eventually("10.0.0.3 is managed", async || net.is_managed("10.0.0.3").await).await;
        resolver
            .handle
            .set_gateway_interfaces(BTreeSet::new())
            .expect("set the interfaces");
        eventually("10.0.0.2 is handed back", async || {
            !net.is_managed("10.0.0.2").await
        })
        .await;
        assert!(resolver.snapshots.borrow().is_empty());
    });
}

#[test]
fn catches_up_after_more_changes_than_it_can_read() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        let mut resolver = Running::start(&["192.0.2.7", "10.0.0.2"]);
        resolver.wait_for_mac("10.0.0.2", PEER_MAC).await;
        // The resolver shares this thread, so that its socket overflows while the other one works.
        pair.lb.run(async |net| {
            for block in 0..20_000_u32 {
                let [_, high, middle, low] = block.to_be_bytes();
                add_blackhole(&net, [100, 64 + high, middle, low]).await;
            }
            net.set_route("192.0.2.0/24", "10.0.0.2", "eth0", None).await;
        });
        resolver.wait_for_mac("192.0.2.7", PEER_MAC).await;
        drop(net);
    });
}

async fn add_blackhole(net: &Net, address: [u8; 4]) {
    use rtnetlink::packet_route::route::RouteType;
    let builder = rtnetlink::RouteMessageBuilder::<std::net::Ipv4Addr>::new();
    let message = builder
        .destination_prefix(address.into(), 32)
        .kind(RouteType::BlackHole)
        .build();
    net.handle
        .route()
        .add(message)
        .execute()
        .await
        .expect("add a blackhole");
}

#[test]
fn ends_with_its_handle() {
    Namespace::new().run(async |_| {
        let Running {
            handle,
            mut snapshots,
        } = Running::start(&[]);
        drop(handle);
        let ended = async { while snapshots.changed().await.is_ok() {} };
        timeout(PATIENCE, ended).await.expect("the resolver ends");
    });
}

#[test]
fn describes_an_interface() {
    let pair = Pair::new();
    pair.lb.run(async |net| {
        let interface = find_interface("eth0").await.expect("eth0");
        assert_eq!(interface.index, net.index("eth0").await);
        assert_eq!(
            (interface.name.as_str(), interface.driver.as_str()),
            ("eth0", "veth")
        );
        assert_eq!(
            (interface.mac, interface.mtu, interface.up),
            (Some(LB_MAC), 1500, true)
        );
        assert_eq!(interface.xdp, []);
        let lo = find_interface("lo").await.expect("lo");
        assert_eq!((lo.mac, lo.up), (None, false));

        let error = find_interface("eth7").await.expect_err("there is no eth7");
        assert_eq!(
            error.to_string(),
            r#"there is no interface "eth7" here; there are: eth0, lo"#
        );
        assert!(matches!(error, InterfaceError::Unknown { .. }));
    });
}

#[test]
fn reads_whether_an_interface_forwards() {
    let pair = Pair::new();
    pair.lb.run(async |_| {
        for (family, directory) in [(SysctlFamily::V4, "ipv4"), (SysctlFamily::V6, "ipv6")] {
            for (value, expected) in [("0", false), ("1", true)] {
                set_sysctl(&format!("{directory}/conf/eth0/forwarding"), value);
                assert_eq!(forwarding_enabled(family, "eth0").expect("a setting"), expected);
            }
            forwarding_enabled(family, "eth7").expect_err("there is no eth7");
            forwarding_enabled(family, "../eth0").expect_err("no interface name");
        }
    });
}

/// A resolver whose sockets fail, or that stumbles, begins again, tells of it, and goes on following the kernel.
#[test]
fn a_resolver_that_fails_begins_again() {
    let pair = Pair::new();
    for panics in [false, true] {
        pair.lb.run(async |_| {
            let vitals = Vitals::default();
            let (handle, snapshots) =
                spawn_with(Monitor::broken(panics), Duration::ZERO, &vitals).expect("start the resolver");
            let mut running = Running { handle, snapshots };
            running.resolve(&["10.0.0.2"]);
            running.wait_for_mac("10.0.0.2", PEER_MAC).await;
            let told = vitals.ailments();
            assert_eq!(
                (told.len(), told[0].failures, told[0].runs),
                (1, 1, true),
                "{told:?}"
            );
            assert_eq!(told[0].why.contains("stumbles"), panics, "{told:?}");

            // Changes are reported again.
            ip_command("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:bb dev eth0 nud permanent");
            running.wait_for_mac("10.0.0.2", OTHER_MAC).await;
            ip_command("neigh del 10.0.0.2 dev eth0");
            running.wait_for_mac("10.0.0.2", PEER_MAC).await;
        });
    }
}
