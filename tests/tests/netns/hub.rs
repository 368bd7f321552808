//! Two balancers on a wire that brings every frame to everybody, as hubs, mirror ports and switches with full tables do:
//! each leaves the other's frames alone.

use std::net::{IpAddr, SocketAddr};

use lb_api::packet::to_hex;
use lb_lab::{Agent, Forwarder, Host, Lab, LabOptions, LbOptions, Namespace};

use super::{
    devices::sh,
    support::{HeldConnections, PORT, Rig, Service, backend_addresses, requests, rig::lb, wait_until},
};

/// Connections of each family.
const CONNECTIONS: usize = 100;
const STRANGER: &str = "02:00:00:00:00:99";

/// A lab whose bridge learns nothing.
fn hub(clients: usize) -> Lab {
    let lab = Lab::new(LabOptions {
        clients,
        ..LabOptions::new(Forwarder::L2dsr)
    })
    .unwrap();
    sh(&lab.wire, "ip link set br0 type bridge ageing_time 0");
    lab
}

fn config(lab: &Lab) -> String {
    let service = |vip: &IpAddr| {
        let name = if vip.is_ipv4() { "web4" } else { "web6" };
        let service = Service::new(Forwarder::L2dsr, &[*vip]).text("name", name);
        service.backends(&backend_addresses(lab, *vip)).to_string()
    };
    lab.options().vips.iter().map(service).collect()
}

/// The reason for which a frame of the first client to that MAC would leave.
fn reason_for(agent: &Agent, mac: &str) -> String {
    let arguments = [
        "explain",
        "tcp",
        "10.1.0.11",
        "10.99.0.1:80",
        "--mac",
        mac,
        "--json",
    ];
    let output = agent.cli(&arguments).unwrap();
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    view["reason"].as_str().unwrap().to_owned()
}

fn wait_until_it_knows_its_macs(agent: &Agent) {
    wait_until("frames for others are told from its own", || {
        reason_for(agent, STRANGER) == "other-host"
    });
}

fn count(agent: &Agent, reason: &str) -> u64 {
    let reasons = agent.stats().unwrap().reasons;
    let found = reasons.iter().find(|found| found.name == reason);
    found.unwrap().packets
}

/// Starts an agent that places flows otherwise.
fn second(lab: &mut Lab, config: &str) -> Agent {
    let host = lab.clients[1].clone();
    // What it sent from XDP would be dropped there otherwise.
    lab.attach_pass(&lab.wire.clone(), &host.port).unwrap();
    let mut options = LbOptions::new(lb(), Some(config.to_owned()));
    options.arguments = ["--hash-seed", "0x77"].map(str::to_owned).to_vec();
    Agent::start(&host, &options).unwrap()
}

#[test]
fn two_balancers_on_a_hub_break_no_connection() {
    let mut lab = hub(2);
    let config = config(&lab);
    let other = second(&mut lab, &config);
    let rig = Rig::new(lab, &config);
    wait_until("the other one's backends are up, too", || {
        let view = other.services().unwrap();
        let mut backends = view.services.iter().flat_map(|service| &service.backends);
        backends.all(|backend| backend.state.to_string() == "up")
    });
    for agent in [&rig.agent, &other] {
        wait_until_it_knows_its_macs(agent);
    }

    let vips = rig.lab.options().vips.clone();
    for vip in vips {
        let target = SocketAddr::new(vip, PORT);
        let mut held = HeldConnections::open(rig.client(), target, CONNECTIONS);
        for _ in 0..3 {
            let answers = held.ask();
            let broken: Vec<_> = answers
                .iter()
                .filter_map(|answer| answer.as_ref().err())
                .collect();
            assert!(
                broken.is_empty(),
                "{} of {CONNECTIONS} to {vip}: {broken:?}",
                broken.len()
            );
        }
        requests(rig.client(), target, 100);
    }
    assert_eq!(count(&other, "forwarded"), 0);
    assert!(count(&other, "other-host") > 1000, "it is no hub");
    // It saw those from the balancer to the backends, and from there to the client.
    assert!(count(&rig.agent, "other-host") > 1000);
    assert_eq!(rig.drops(), []);
}

fn hex(host: &Host) -> String {
    host.mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The address of an interface changes as that of a bond does when another part of it becomes the active one.
#[test]
fn connections_outlive_another_mac_of_the_interface() {
    let lab = hub(1);
    let config = config(&lab);
    let announce: &[_] = &[("net/ipv4/conf/eth0/arp_notify", "1")];
    lab.balancer.namespace.set_sysctls(announce).unwrap();
    let rig = Rig::new(lab, &config);
    wait_until_it_knows_its_macs(&rig.agent);
    let target = SocketAddr::new(rig.lab.options().vips[0], PORT);
    let mut held = HeldConnections::open(rig.client(), target, CONNECTIONS);
    let before = hex(&rig.lab.balancer);
    assert_eq!(reason_for(&rig.agent, &before), "forwarded");
    for (new, old) in [(STRANGER, before.as_str()), (before.as_str(), STRANGER)] {
        set_mac(&rig.lab.balancer.namespace, new);
        wait_until("the new MAC is its own, and the old one is not", || {
            reason_for(&rig.agent, new) == "forwarded" && reason_for(&rig.agent, old) == "other-host"
        });
        let answers = held.ask();
        let broken: Vec<_> = answers
            .iter()
            .filter_map(|answer| answer.as_ref().err())
            .collect();
        assert!(broken.is_empty(), "{} of {CONNECTIONS}: {broken:?}", broken.len());
    }
}

fn set_mac(namespace: &Namespace, mac: &str) {
    sh(namespace, &format!("ip link set eth0 address {mac}"));
}

/// Devices that lie on the interface come and go, and what the operator named is accepted from the start.
#[test]
fn frames_for_a_macvlan_and_a_virtual_router_are_balanced() {
    const VIRTUAL: &str = "00:00:5e:00:01:0a";
    let lab = hub(1);
    let config = format!("[dataplane]\naccept_macs = [\"{VIRTUAL}\"]\n{}", config(&lab));
    let rig = Rig::new(lab, &config);
    wait_until_it_knows_its_macs(&rig.agent);
    assert_eq!(reason_for(&rig.agent, VIRTUAL), "forwarded");
    assert_eq!(reason_for(&rig.agent, "ff:ff:ff:ff:ff:ff"), "other-host");
    let balancer = &rig.lab.balancer.namespace;
    sh(
        balancer,
        &format!("ip link add link eth0 name upper address {STRANGER} type macvlan mode bridge"),
    );
    wait_until("the macvlan's frames are its own", || {
        reason_for(&rig.agent, STRANGER) == "forwarded"
    });

    // Clients that know the virtual router's MAC only.
    let gateway = format!("ip neigh replace 10.1.0.1 dev eth0 lladdr {VIRTUAL}");
    sh(&rig.client().namespace, &gateway);
    let target = SocketAddr::new(rig.lab.options().vips[0], PORT);
    requests(rig.client(), target, 100);

    sh(balancer, "ip link del upper");
    wait_until_it_knows_its_macs(&rig.agent);
    let hex = to_hex(&rig.lab.balancer.mac);
    assert!(
        rig.lb(&["explain", "tcp", "10.1.0.11", "10.99.0.1:80", "--json"])
            .contains(&hex)
    );
}
