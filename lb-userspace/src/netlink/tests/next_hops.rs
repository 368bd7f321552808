//! Which next hop a resolver takes, and how it follows routes, next-hop objects, rules and interfaces.

use super::*;

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
