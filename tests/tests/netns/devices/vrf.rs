//! The balancer, or a backend, has its interface in a VRF.

use std::{net::SocketAddr, process::Command};

use lb_api::view::BackendState;
use lb_lab::{Forwarder, Host, Lab, LbOptions, Namespace, traffic::server::Server};

use super::super::support::{
    PORT, Rig, Service, allow_ping, backend_addresses, lab, requests, rig::lb, wait_until,
};

/// Runs a command in the namespace, which must succeed; what it printed.
fn run(namespace: &Namespace, command: &str) -> String {
    let mut words = command.split_whitespace();
    let mut process = Command::new(words.next().unwrap());
    let output = namespace.run(|| process.args(words).output()).unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Puts the host's interface into a VRF `red` of its own.
fn enslave(host: &Host) {
    let namespace = &host.namespace;
    namespace
        .set_sysctls(&[
            // The interface goes down and up.
            ("net/ipv6/conf/all/keep_addr_on_down", "1"),
            ("net/ipv6/conf/default/keep_addr_on_down", "1"),
        ])
        .unwrap();
    for command in [
        "ip link add red type vrf table 1000".to_owned(),
        "ip link set red up".to_owned(),
        format!("ip link set {} master red", host.interface()),
    ] {
        run(namespace, &command);
    }
}

/// A service for each of the lab's VIPs, with checks of that kind.
fn services(lab: &Lab, forwarder: Forwarder, check: &str) -> String {
    let vips = lab.options().vips.iter().zip(["web", "web6"]);
    vips.map(|(&vip, name)| {
        Service::new(forwarder, &[vip])
            .text("name", name)
            .key("check", check)
            .backends(&backend_addresses(lab, vip))
            .to_string()
    })
    .collect()
}

/// A balancer in a VRF serves both VIPs with checks of that kind.
fn serves_from_a_vrf(forwarder: Forwarder, check: &str, generic: bool) {
    let lab = lab(forwarder, 2);
    enslave(&lab.balancer);
    allow_ping(&lab.balancer.namespace);
    let vips = lab.options().vips.clone();
    let mut options = LbOptions::new(lb(), Some(services(&lab, forwarder, check)));
    if generic {
        options.mode = "generic".into();
    }
    let rig = Rig::with(lab, &options, &[PORT]);
    rig.wait_until_all_up();
    for vip in vips {
        let shares = requests(rig.client(), SocketAddr::new(vip, PORT), 30);
        assert_eq!(shares.len(), 2, "{vip}: {shares:?}");
    }
}

const TCP_CHECK: &str = r#"{ type = "tcp", interval = "500ms", timeout = "400ms", rise = 1 }"#;
const PING_CHECK: &str = r#"{ type = "ping", interval = "500ms", timeout = "400ms", rise = 1 }"#;

#[test]
#[ignore = "needs a VRF device: cargo xtask kernels"]
fn a_balancer_in_a_vrf_finds_its_backends() {
    serves_from_a_vrf(Forwarder::L2dsr, TCP_CHECK, false);
}

#[test]
#[ignore = "needs a VRF device: cargo xtask kernels"]
fn a_balancer_in_a_vrf_pings_its_backends() {
    serves_from_a_vrf(Forwarder::L2dsr, PING_CHECK, true);
}

#[test]
#[ignore = "needs a VRF device: cargo xtask kernels"]
fn a_balancer_in_a_vrf_finds_the_way_back_to_clients() {
    serves_from_a_vrf(Forwarder::Nat, TCP_CHECK, false);
}

#[test]
#[ignore = "needs a VRF device: cargo xtask kernels"]
fn an_interface_that_joins_a_vrf_later_is_followed() {
    let lab = lab(Forwarder::L2dsr, 1);
    let vip = lab.options().vips[0];
    let address = lab.backends[0].address_like(vip);
    let service = Service::new(Forwarder::L2dsr, &[vip])
        .key("check", r#"{ type = "none" }"#)
        .backend(address);
    let rig = Rig::new(lab, &service);
    enslave(&rig.lab.balancer);
    // A route of the host's own, which leads nowhere, is not the one to take.
    run(
        &rig.lab.balancer.namespace,
        "ip route add unreachable 10.0.0.0/24",
    );
    let resolved = || rig.backend("web", address).state == BackendState::Up;
    wait_until("the backend is up in the VRF", resolved);
    let shares = requests(rig.client(), SocketAddr::new(vip, PORT), 10);
    assert_eq!(shares.len(), 1, "{shares:?}");
}

/// A lab whose only backend is in a VRF, and has been told nothing else yet.
fn lab_with_a_backend_in_a_vrf() -> Lab {
    let lab = lab(Forwarder::Fullnat, 1);
    let backend = &lab.backends[0];
    enslave(backend);
    for route in [
        "ip route add 10.1.0.0/24 dev eth0 vrf red",
        "ip -6 route add fd01::/64 dev eth0 vrf red",
    ] {
        run(&backend.namespace, route);
    }
    backend
        .namespace
        .set_sysctls(&[("net/ipv4/tcp_l3mdev_accept", "1")])
        .unwrap();
    lab
}

fn backend_setup(host: &Host, state: &tempfile::TempDir, arguments: &str) -> String {
    let (lb, state) = (lb(), state.path());
    run(
        &host.namespace,
        &format!(
            "{} backend-setup --state-dir {} {arguments}",
            lb.display(),
            state.display()
        ),
    )
}

fn look(host: &Host) -> String {
    let shown = [
        "ip link show master red",
        "ip -br address",
        "ip route show table all",
    ];
    shown.map(|command| run(&host.namespace, command)).concat()
}

fn backend_in_a_vrf(forwarder: Forwarder) {
    let lab = lab_with_a_backend_in_a_vrf();
    let backend = &lab.backends[0];
    let vips = lab.options().vips.clone();
    let state = tempfile::tempdir().unwrap();
    let before = look(backend);
    let name = forwarder.name();
    let printed = backend_setup(
        backend,
        &state,
        &format!(
            "--apply --iface eth0 --forwarder {name} --vip {},{}",
            vips[0], vips[1]
        ),
    );
    assert!(printed.contains("dev red"), "{printed}");
    let anywhere = [SocketAddr::new("::".parse().unwrap(), PORT)];
    let _server = Server::start(&backend.namespace, &backend.name, &anywhere).unwrap();
    let config = services(&lab, forwarder, TCP_CHECK);
    let rig = Rig::on_ports(lab, &config, &[]);
    rig.wait_until_all_up();
    for vip in vips {
        let shares = requests(rig.client(), SocketAddr::new(vip, PORT), 10);
        assert_eq!(shares.len(), 1, "{vip}: {shares:?}");
    }
    let backend = &rig.lab.backends[0];
    backend_setup(backend, &state, "--undo");
    let tunnels = |text: &str| text.lines().filter(|line| line.contains("master red")).count();
    assert_eq!(tunnels(&look(backend)), tunnels(&before), "{}", look(backend));
    // sit0 keeps an address that the kernel made of the VIP while it was up.
    assert!(!look(backend).contains("10.99.0.1/32"), "{}", look(backend));
}

#[test]
#[ignore = "needs a VRF device: cargo xtask kernels"]
fn an_l2dsr_backend_in_a_vrf_is_set_up_there() {
    backend_in_a_vrf(Forwarder::L2dsr);
}

#[test]
#[ignore = "needs a VRF device: cargo xtask kernels"]
fn an_ipip_backend_in_a_vrf_is_set_up_there() {
    backend_in_a_vrf(Forwarder::Ipip);
}

#[test]
#[ignore = "needs a VRF device: cargo xtask kernels"]
fn a_gue_backend_in_a_vrf_is_set_up_there() {
    backend_in_a_vrf(Forwarder::Gue);
}
