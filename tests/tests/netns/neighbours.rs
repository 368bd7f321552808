//! Answers of `nat` and `fullnat` backends whose next hop toward the client the balancer's kernel does not know, or knows
//! wrong: its stack asks, as for packets of its own, and no connection waits for somebody else to do so.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
};

use lb_lab::{
    FORWARDING, Forwarder, Lab, Netlink,
    traffic::{
        echo::{self, EchoOptions, Echoes},
        http,
    },
};

use super::{
    fullnat,
    support::{
        NO_CHECK, PORT, Rig, SILENCE, Service, backend_addresses, get, ip, lab, server_for, wait_until,
    },
};

/// The balancer's address in the clients' network.
fn balancer(like: IpAddr) -> IpAddr {
    let address = if like.is_ipv4() { "10.1.0.1" } else { "fd01::1" };
    address.parse().unwrap()
}

/// A client that never asks for the balancer, so that the balancer's kernel is never told of it.
fn quiet(lab: &Lab) {
    let (client, mac) = (&lab.clients[0], lab.balancer.mac);
    for &vip in &lab.options().vips {
        let keep = async |netlink: &Netlink| {
            netlink
                .add_neighbour(client.interface(), balancer(vip), mac)
                .await
        };
        client.namespace.netlink(keep).unwrap();
    }
}

/// The balancer's kernel forgets the clients.
fn forget(lab: &Lab, client: IpAddr) {
    let family = if client.is_ipv4() { "-4" } else { "-6" };
    ip(
        &lab.balancer.namespace,
        &format!("{family} neigh flush to {client} dev eth0"),
    );
}

fn service(forwarder: Forwarder, lab: &Lab) -> String {
    let vips = &lab.options().vips;
    let backends: Vec<IpAddr> = vips.iter().flat_map(|&vip| backend_addresses(lab, vip)).collect();
    let web = Service::new(forwarder, vips).backends(&backends);
    let echo = web
        .clone()
        .text("name", "echo")
        .key("port", echo::PORT)
        .key("check", NO_CHECK);
    let pool = match forwarder {
        Forwarder::Fullnat => fullnat::pool(lab, "1024-32767"),
        _ => String::new(),
    };
    format!("{pool}{web}{echo}")
}

fn rig(forwarder: Forwarder, prepare: impl FnOnce(&Lab)) -> Rig {
    let lab = lab(forwarder, 2);
    if forwarder == Forwarder::Fullnat {
        lab.balancer.namespace.set_sysctls(FORWARDING).unwrap();
    }
    quiet(&lab);
    prepare(&lab);
    let config = service(forwarder, &lab);
    let rig = Rig::on_ports(lab, &config, &[PORT, echo::PORT]);
    rig.wait_until_all_up();
    rig
}

fn clients_that_nobody_asked_for_are_answered(forwarder: Forwarder) {
    let rig = rig(forwarder, |_| {});
    for &vip in &rig.lab.options().vips {
        let client = rig.client().address_like(vip);
        let before = rig.count("returned-by-host");
        for _ in 0..3 {
            forget(&rig.lab, client);
            server_for(rig.client(), SocketAddr::new(vip, PORT));
        }
        assert!(rig.count("returned-by-host") >= before + 3, "{vip}");
    }
    assert_eq!(rig.drops(), []);
}

#[test]
fn clients_that_nobody_asked_for_are_answered_through_nat() {
    clients_that_nobody_asked_for_are_answered(Forwarder::Nat);
}

#[test]
fn clients_that_nobody_asked_for_are_answered_through_fullnat() {
    clients_that_nobody_asked_for_are_answered(Forwarder::Fullnat);
}

#[test]
fn flows_go_on_when_their_clients_are_forgotten() {
    let rig = rig(Forwarder::Nat, |_| {});
    for &vip in &rig.lab.options().vips {
        let options = EchoOptions::new(SocketAddr::new(vip, echo::PORT), 20);
        let echoes = Echoes::start(&rig.client().namespace, options).unwrap();
        let all = |echoes: &Echoes, more: u64| {
            let before: Vec<u64> = echoes.connections().iter().map(|known| known.echoes).collect();
            wait_until("all connections echo on", || {
                let now = echoes.connections();
                let enough = |(i, known): (usize, &echo::Connection)| {
                    known.echoes >= before.get(i).copied().unwrap_or(0) + more
                };
                now.len() >= 20 && now.iter().enumerate().all(enough)
            });
        };
        all(&echoes, 1);
        for _ in 0..5 {
            forget(&rig.lab, rig.client().address_like(vip));
            all(&echoes, 3);
        }
        let connections = echoes.stop().unwrap();
        assert_eq!(connections.len(), 20, "none had to be opened again");
        assert!(connections.iter().all(|known| known.broken().is_none()));
    }
}

#[test]
fn clients_behind_a_gateway_of_a_route_of_their_own_are_answered() {
    let far = ["203.0.113.1", "2001:db8:cc::1"];
    let rig = rig(Forwarder::Nat, |lab| {
        let client = &lab.clients[0];
        for (far, prefix) in far.into_iter().zip([32, 128]) {
            let like: IpAddr = far.parse().unwrap();
            let vip = lab.options().vips[usize::from(like.is_ipv6())];
            let (gateway, via) = (client.address_like(like), balancer(like));
            ip(
                &client.namespace,
                &format!("addr add {far}/{prefix} dev lo nodad"),
            );
            ip(
                &client.namespace,
                &format!("route replace {vip} via {via} src {far}"),
            );
            ip(
                &lab.balancer.namespace,
                &format!("route add {far}/{prefix} via {gateway}"),
            );
            for backend in &lab.backends {
                let via = lab.balancer.address_like(like);
                ip(&backend.namespace, &format!("route add {far}/{prefix} via {via}"));
            }
        }
    });
    for &vip in &rig.lab.options().vips {
        forget(&rig.lab, rig.client().address_like(vip));
        server_for(rig.client(), SocketAddr::new(vip, PORT));
    }
    // It is kept fresh like any other next hop.
    let neighbours = |family: &str| {
        let run = || {
            Command::new("ip")
                .args([family, "-d", "neigh", "show", "dev", "eth0"])
                .output()
                .unwrap()
        };
        let output = rig.lab.balancer.namespace.run(run).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for (family, like) in [("-4", far[0]), ("-6", far[1])] {
        let gateway = rig.client().address_like(like.parse().unwrap()).to_string() + " ";
        wait_until("the gateway is managed", || {
            let shown = neighbours(family);
            let mut lines = shown.lines();
            lines.any(|line| line.starts_with(&gateway) && line.contains("managed"))
        });
    }
    assert_eq!(rig.drops(), []);
}

/// The kernel takes no packet from an address of its own, so that only the agent can have it ask.
#[test]
fn clients_are_answered_though_the_vip_is_the_balancers_own() {
    let rig = rig(Forwarder::Nat, |lab| {
        let vip = lab.options().vips[0];
        ip(&lab.balancer.namespace, &format!("addr add {vip}/32 dev eth0"));
    });
    let vip = rig.lab.options().vips[0];
    forget(&rig.lab, rig.client().address_like(vip));
    server_for(rig.client(), SocketAddr::new(vip, PORT));
}

#[test]
fn a_client_with_another_mac_address_is_found_again() {
    let rig = rig(Forwarder::Nat, |lab| {
        for family in ["ipv4", "ipv6"] {
            let of = |key: &str| format!("net/{family}/neigh/eth0/{key}");
            let settings = [
                (of("retrans_time_ms"), "100"),
                (of("delay_first_probe_time"), "1"),
            ];
            let settings: Vec<(&str, &str)> = settings
                .iter()
                .map(|(key, value)| (key.as_str(), *value))
                .collect();
            lab.balancer.namespace.set_sysctls(&settings).unwrap();
        }
    });
    for &vip in &rig.lab.options().vips {
        let (client, target) = (rig.client().address_like(vip), SocketAddr::new(vip, PORT));
        let wrong = format!("neigh replace {client} lladdr 02:00:00:00:00:99 dev eth0 nud stale");
        ip(&rig.lab.balancer.namespace, &wrong);
        wait_until("the client is answered", || {
            http::fetch(&rig.client().namespace, target, get("/"), SILENCE).is_ok()
        });
    }
}
