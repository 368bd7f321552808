//! Devices that not every kernel has, and devices that lie on others. A test that needs one is ignored, and runs in a guest
//! whose kernel has it (`cargo xtask kernels`).

mod dummy;
mod netem;
mod stacking;
mod virtio;
mod vrf;

use std::process::Command;

use lb_lab::{Forwarder, Lab, LabOptions, LbOptions, Namespace};

use crate::fullnat;
use crate::support::{LbRun, PORT, Rig, Service, backend_addresses, requests, rig::lb};

/// Gives the balancer's `eth0` the addresses that it has in every lab.
const BALANCER_ADDRESSES: &str =
    "for address in 10.0.0.1/24 10.1.0.1/24; do ip addr add $address dev eth0; done
    for address in fd00::1/64 fd01::1/64; do ip -6 addr add $address dev eth0 nodad; done";

/// Runs a script in the namespace; it must succeed.
pub(crate) fn sh(namespace: &Namespace, script: &str) {
    let run = || Command::new("sh").args(["-ec", script]).output().unwrap();
    let output = namespace.run(run).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}");
}

/// A lab where the balancer's `eth0` is made by `stack`, and `wire` has changed the other side.
fn stacked(wire: &[&str], stack: &[String]) -> Lab {
    let lab = Lab::new(LabOptions {
        backends: 2,
        two_interfaces: true,
        ..LabOptions::new(Forwarder::L2dsr)
    })
    .unwrap();
    let hosts = lab.clients.iter().chain(&lab.backends);
    let hosts: Vec<&str> = hosts.map(|host| host.port.as_str()).collect();
    sh(
        &lab.wire,
        &format!("HOSTS='{}'\n{}", hosts.join(" "), wire.join("\n")),
    );
    sh(
        &lab.balancer.namespace,
        &format!(
            "for i in 0 1; do
                ip addr flush dev eth$i; ip link set eth$i down; ip link set eth$i name port$i; ip link set port$i up
            done
            {}
            ip link set eth0 up
            {BALANCER_ADDRESSES}",
            stack.join("\n")
        ),
    );
    lab
}

/// Where the program runs.
fn places(rig: &Rig) -> Vec<(String, String)> {
    let status = rig.agent.status().unwrap();
    let place = |one: lb_api::view::InterfaceView| (one.name, one.mode.to_string());
    status.interfaces.into_iter().map(place).collect()
}

/// Sees connections to each VIP through.
fn serves(rig: &Rig) {
    for &vip in &rig.lab.options().vips {
        let shares = requests(rig.client(), (vip, PORT).into(), 20);
        assert_eq!(shares.values().sum::<usize>(), 20, "{vip}");
    }
    assert_eq!(rig.drops(), []);
}

/// Starts `lb` on `eth0`, with a service for each VIP and servers behind it.
fn start(lab: Lab, mode: &str) -> Rig {
    let pool = match lab.options().forwarder {
        Forwarder::Fullnat => fullnat::pool(&lab, "20000-29999"),
        _ => String::new(),
    };
    let config: String = lab.options().vips.iter().fold(pool, |config, &vip| {
        let name = if vip.is_ipv4() { "web4" } else { "web6" };
        let service = Service::new(lab.options().forwarder, &[vip]).text("name", name);
        config + &service.backends(&backend_addresses(&lab, vip)).to_string()
    });
    let options = LbOptions {
        mode: mode.into(),
        ..LbOptions::new(lb(), Some(config))
    };
    let rig = Rig::with(lab, &options, &[PORT]);
    rig.wait_until_all_up();
    rig
}

/// What `lb run` says when it refuses `eth0`.
fn refused(stack: &[String], mode: &str, words: &[&str]) {
    let lab = stacked(&[], stack);
    let ended = LbRun::start(&lab.balancer.namespace, &["--iface", "eth0", "--mode", mode]).wait();
    assert_ne!(ended.code, Some(0), "{}", ended.log);
    for word in words {
        assert!(ended.log.contains(word), "{word:?} is not in:\n{}", ended.log);
    }
}
