//! The real kernel, in network namespaces: what the resolver says must be what the kernel does.

mod lab;
mod neighbours;
mod next_hops;

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
