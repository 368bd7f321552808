//! A VIP that is an address of the balancer's own interface, as the guide has it: checks never come from it, since the
//! backend has it, too, and would answer itself.

use std::{net::SocketAddr, process::Command};

use lb_lab::{Forwarder, Lab, LabOptions};

use super::support::{
    FAST_CHECK, LIMIT, PORT, Rig, Service, allow_ping, backend_addresses, requests, wait_until,
};

/// In the backends' network, and nearer to their addresses than the balancer's own: RFC 6724 prefers it.
const VIP6: &str = "fd00::8";
const VIP4: &str = "10.99.0.1";
const PINGS: &str = r#"{ type = "ping", interval = "100ms", timeout = "3s", fall = 2 }"#;
/// So many further checks must be answered, of each backend.
const CHECKS: u64 = 10;

fn lab() -> Lab {
    let vips = [VIP4, VIP6].map(|vip| vip.parse().unwrap()).to_vec();
    Lab::new(LabOptions {
        vips,
        ..LabOptions::new(Forwarder::L2dsr)
    })
    .unwrap()
}

/// The balancer gets the VIP as an address, and its kernel prefers it toward the backends.
fn draw_vip(lab: &Lab, v6: bool) {
    let vip = lab.options().vips[usize::from(v6)];
    let (namespace, length) = (&lab.balancer.namespace, if v6 { 128 } else { 32 });
    let add = async |netlink: &lb_lab::Netlink| netlink.add_address("eth0", vip, length).await;
    namespace.netlink(add).unwrap();
    if !v6 {
        let mut ip = Command::new("ip");
        ip.args(["route", "replace", "10.0.0.0/24", "dev", "eth0", "src", VIP4]);
        assert!(namespace.spawn(ip).unwrap().wait(LIMIT).unwrap().success());
    }
}

fn checks_are_answered(v6: bool, drawn_before: bool) {
    let lab = lab();
    allow_ping(&lab.balancer.namespace);
    let vip = lab.options().vips[usize::from(v6)];
    if drawn_before {
        draw_vip(&lab, v6);
    }
    let addresses = backend_addresses(&lab, vip);
    let connected = Service::new(Forwarder::L2dsr, &[vip])
        .key("check", FAST_CHECK)
        .backends(&addresses);
    let pinged = Service::new(Forwarder::L2dsr, &[vip])
        .text("name", "pinged")
        .key("port", 81)
        .key("check", PINGS)
        .backends(&addresses);
    let rig = Rig::new(lab, &format!("{connected}{pinged}"));
    if !drawn_before {
        draw_vip(&rig.lab, v6);
    }
    let answered = || -> Vec<u64> {
        let servers = rig.servers.iter().flatten();
        servers
            .map(|server| server.stats().unwrap().connections)
            .collect()
    };
    let before = answered();
    let mut asked = 0;
    wait_until("checks go on being answered", || {
        asked += 1;
        let grown = |(before, now): (&u64, u64)| now > before + asked + CHECKS;
        before.iter().zip(answered()).all(grown)
    });
    rig.wait_until_all_up();
    assert_eq!(requests(rig.client(), SocketAddr::new(vip, PORT), 60).len(), 3);
}

#[test]
fn checks_do_not_come_from_an_ipv6_vip_of_the_balancers_interface() {
    checks_are_answered(true, true);
}

#[test]
fn checks_do_not_come_from_an_ipv4_vip_of_the_balancers_interface() {
    checks_are_answered(false, true);
}

#[test]
fn a_vip_that_is_added_while_checks_run_does_not_become_their_source() {
    checks_are_answered(true, false);
}
