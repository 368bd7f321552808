//! `lb decap` as an operator uses it: what comes through tunnels, from whom and to where, and its end.

use std::{
    net::SocketAddr,
    process::{Command, Output},
};

use lb_lab::{Forwarder, Host, traffic::http};
use lb_packets::Frame;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{LIMIT, PORT, Rig, Service, backend_addresses, get, lab, rig::lb, send_to, wait_until};

const INTERFACE: &str = "eth0";

fn decap(host: &Host, arguments: &[&str]) -> Output {
    let mut command = Command::new(lb());
    command.arg("decap").args(arguments);
    host.namespace.run(|| command.output()).unwrap().unwrap()
}

/// The programs that are attached on a host.
fn programs(host: &Host) -> Vec<Value> {
    let status = decap(host, &["status", "--json"]);
    let view: Value = serde_json::from_slice(&status.stdout).unwrap();
    view["programs"].as_array().unwrap().clone()
}

/// The counter of that reason, of the only program on a host.
fn counted(host: &Host, reason: &str) -> u64 {
    let programs = programs(host);
    let counts = programs
        .first()
        .map(|program| program["counts"].as_array().unwrap());
    let found = counts.and_then(|counts| counts.iter().find(|count| count["reason"] == reason));
    found.map_or(0, |count| count["packets"].as_u64().unwrap())
}

/// The lab's backends were set up by `lb backend-setup`, which let `lb decap` end the tunnels.
#[test]
fn decap_counts_what_came_through_tunnels() {
    for forwarder in [Forwarder::Ipip, Forwarder::Gue, Forwarder::Fou, Forwarder::Gre] {
        let lab = lab(forwarder, 1);
        let mut config = String::new();
        for &vip in &lab.options().vips {
            let name = if vip.is_ipv4() { "web4" } else { "web6" };
            let web = Service::new(forwarder, &[vip]).text("name", name);
            config += &web.backends(&backend_addresses(&lab, vip)).to_string();
        }
        let rig = Rig::new(lab, &config);
        for &vip in &rig.lab.options().vips {
            let target = SocketAddr::new(vip, PORT);
            http::fetch(&rig.client().namespace, target, get("/"), LIMIT).unwrap();
        }
        let backend = &rig.lab.backends[0];
        // Two connections: at least SYN, ACK, request and FIN of each.
        assert!(counted(backend, forwarder.name()) >= 8, "{forwarder:?}");
        assert_eq!(
            programs(backend)[0]["decapsulated"],
            counted(backend, forwarder.name())
        );
        assert_eq!(counted(backend, "bad-inner"), 0);
    }
}

#[test]
fn decap_ends_with_its_process() {
    let lab = lab(Forwarder::L2dsr, 1);
    let backend = &lab.backends[0];
    let mut command = Command::new(lb());
    command.args(["decap", "--iface", INTERFACE]);
    let mut process = backend.namespace.spawn(command).unwrap();
    wait_until("lb decap is attached", || programs(backend).len() == 1);
    let second = decap(backend, &["--iface", INTERFACE]);
    assert_eq!(second.status.code(), Some(1));
    let refusal = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        refusal.contains("has an XDP program already: \"lb_decap\""),
        "{refusal}"
    );
    process.signal(Signal::SIGTERM).unwrap();
    assert!(process.wait(LIMIT).unwrap().success());
    assert!(programs(backend).is_empty());
}

#[test]
fn decap_follows_the_hosts_addresses_while_it_runs() {
    let lab = lab(Forwarder::L2dsr, 1);
    let backend = &lab.backends[0];
    let mut command = Command::new(lb());
    command.args(["decap", "--iface", INTERFACE, "--from", "172.16.0.0/16"]);
    let _process = backend.namespace.spawn(command).unwrap();
    let inner = Frame::tcp("198.51.100.7:40000", "192.0.2.80:80").ip_bytes();
    let tunnelled = |from: &str| {
        Frame::raw(from, "10.0.0.99", 4, &inner)
            .macs(backend.mac, [2; 6])
            .bytes()
    };
    let sends = |from: &str, reason: &str| {
        send_to(backend, &lab.wire, &tunnelled(from));
        counted(backend, reason) > 0
    };
    wait_until("a tunnel to nobody is left alone", || {
        sends("172.16.0.1", "not-ours")
    });
    assert_eq!(counted(backend, "ipip"), 0);
    backend
        .namespace
        .netlink(async |netlink| {
            netlink
                .add_address(INTERFACE, "10.0.0.99".parse().unwrap(), 24)
                .await
        })
        .unwrap();
    wait_until("it ends at the new address", || sends("172.16.0.1", "ipip"));
    assert_eq!(counted(backend, "denied"), 0);
    wait_until("others' tunnels are dropped", || sends("172.17.0.1", "denied"));
}
