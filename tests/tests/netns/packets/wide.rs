//! Services of many addresses and ports, over real TCP: the narrowest one takes a connection.

use std::net::{IpAddr, SocketAddr};

use lb_lab::{
    Forwarder, Lab, NextHop, Route,
    traffic::{http, server::Server},
};

use super::{LIMIT, Rig, get};
use crate::support::{
    NO_CHECK, PORT, SILENCE, Service, allow_ping, backend_addresses, lab, ping, server_for,
};

/// A prefix of each family, and two addresses of it.
const PREFIXES: [(&str, [&str; 2]); 2] = [
    ("10.98.0.0/16", ["10.98.0.7", "10.98.250.200"]),
    ("fd98::/64", ["fd98::7", "fd98::ffff:1"]),
];

/// Clients send what is for the prefixes to the balancer, and backends have the two addresses of each.
fn route_prefixes(lab: &Lab) {
    for (prefix, addresses) in PREFIXES {
        let (network, length) = prefix.split_once('/').unwrap();
        let destination: IpAddr = network.parse().unwrap();
        let balancer = if destination.is_ipv4() {
            "10.1.0.1"
        } else {
            "fd01::1"
        };
        let route = Route {
            destination,
            prefix: length.parse().unwrap(),
            next: NextHop::Via(balancer.parse().unwrap()),
            mtu: None,
        };
        let client = &lab.clients[0].namespace;
        client
            .netlink(async |netlink| netlink.add_route(&route).await)
            .unwrap();
        for backend in &lab.backends {
            let give = async |netlink: &lb_lab::Netlink| {
                for address in addresses {
                    let address: IpAddr = address.parse().unwrap();
                    let length = if address.is_ipv4() { 32 } else { 128 };
                    netlink.add_address("lo", address, length).await?;
                }
                Ok(())
            };
            backend.namespace.netlink(give).unwrap();
        }
    }
}

/// Servers of all backends on those addresses and ports.
fn serve(lab: &Lab, listen: &[SocketAddr]) -> Vec<Server> {
    let start = |host: &lb_lab::Host| Server::start(&host.namespace, &host.name, listen).unwrap();
    lab.backends.iter().map(start).collect()
}

fn unchecked(name: &str, vip: &str, like: IpAddr, lab: &Lab, backend: usize) -> Service {
    Service::new(Forwarder::L2dsr, &[like])
        .text("name", name)
        .key("vips", format!("[\"{vip}\"]"))
        .key("check", NO_CHECK)
        .backend(backend_addresses(lab, like)[backend])
}

#[test]
fn a_prefix_is_served_and_its_longest_goes_first() {
    let lab = lab(Forwarder::L2dsr, 3);
    route_prefixes(&lab);
    let all: Vec<IpAddr> = PREFIXES
        .iter()
        .flat_map(|(_, addresses)| addresses.map(|a| a.parse().unwrap()))
        .collect();
    let listen: Vec<SocketAddr> = all
        .iter()
        .map(|&address| SocketAddr::new(address, PORT))
        .collect();
    let _servers = serve(&lab, &listen);
    let mut config = String::new();
    for (prefix, [first, second]) in PREFIXES {
        let like: IpAddr = first.parse().unwrap();
        let family = if like.is_ipv4() { 4 } else { 6 };
        let wide = unchecked(&format!("wide{family}"), prefix, like, &lab, 0);
        let one = unchecked(&format!("one{family}"), second, like, &lab, 1);
        config += &format!("{wide}{one}");
    }
    let rig = Rig::on_ports(lab, &config, &[]);
    rig.wait_until_all_up();
    let client = rig.client();
    allow_ping(&client.namespace);
    for (prefix, [first, second]) in PREFIXES {
        for (address, server) in [(first, "backend-1"), (second, "backend-2")] {
            let target = SocketAddr::new(address.parse().unwrap(), PORT);
            assert_eq!(server_for(client, target), server, "{target} of {prefix}");
            let big = http::fetch(&client.namespace, target, get("/big?bytes=3000000"), LIMIT).unwrap();
            assert_eq!(big.body().len(), 3_000_000, "{target} of {prefix}");
            assert!(ping(client, target.ip(), LIMIT), "{address} of {prefix}");
        }
    }
    assert_eq!(rig.count("echo-reply"), 4);

    // A narrower prefix that comes later takes its part.
    for (_, [first, _]) in PREFIXES {
        let like: IpAddr = first.parse().unwrap();
        let length = if like.is_ipv4() {
            "10.98.0.0/24"
        } else {
            "fd98::/112"
        };
        let family = if like.is_ipv4() { 4 } else { 6 };
        let backend = backend_addresses(&rig.lab, like)[2].to_string();
        let name = format!("narrow{family}");
        rig.lb(&[
            "service",
            "add",
            &name,
            "--vip",
            length,
            "--protocol",
            "tcp",
            "--port",
            "80",
            "--forwarder",
            "l2dsr",
            "--check",
            "none",
            "--backend",
            &backend,
        ]);
        rig.wait_until_all_up();
        assert_eq!(server_for(client, SocketAddr::new(like, PORT)), "backend-3");
    }
}

#[test]
fn a_range_is_served_and_its_narrowest_goes_first() {
    let lab = lab(Forwarder::L2dsr, 3);
    let vips = lab.options().vips.clone();
    let ports = [30_000, 30_001, 31_000, 31_007, 31_500, 32_767, 32_768];
    let listen: Vec<SocketAddr> = vips
        .iter()
        .flat_map(|&vip| ports.map(|port| SocketAddr::new(vip, port)))
        .collect();
    let _servers = serve(&lab, &listen);
    let mut config = String::new();
    for &vip in &vips {
        let family = if vip.is_ipv4() { 4 } else { 6 };
        let named =
            |name: &str, backend| unchecked(&format!("{name}{family}"), &vip.to_string(), vip, &lab, backend);
        let wide = named("wide", 0).text("port", "30000-32767");
        let narrow = named("narrow", 1).text("port", "31000-31006");
        let one = named("one", 2).key("port", 31_500);
        config += &format!("{wide}{narrow}{one}");
    }
    let rig = Rig::on_ports(lab, &config, &[]);
    rig.wait_until_all_up();
    for &vip in &vips {
        for (port, server) in [
            (30_000, "backend-1"),
            (30_001, "backend-1"),
            (31_000, "backend-2"),
            (31_007, "backend-1"),
            (31_500, "backend-3"),
            (32_767, "backend-1"),
        ] {
            assert_eq!(
                server_for(rig.client(), SocketAddr::new(vip, port)),
                server,
                "{vip} {port}"
            );
        }
        let beyond = SocketAddr::new(vip, 32_768);
        let answer = http::fetch(&rig.client().namespace, beyond, get("/"), SILENCE);
        assert!(answer.is_err(), "{beyond} is no port of the range");
    }
}
