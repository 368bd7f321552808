//! Entries of the kernel's neighbour table that a resolver reads, makes, keeps fresh and leaves alone.

use super::*;

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
