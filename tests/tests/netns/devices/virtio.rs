//! `virtio_net` with the queues that XDP wants, and with too few. The guest has two cards that are wired to each other
//! (`CARDS` in `xtask/src/kernels/guest.rs`); one becomes the balancer's `eth0`, the other its port on the lab's wire.

use std::{fs, process::Command};

use lb_lab::{Forwarder, Lab, Namespace};

use super::{BALANCER_ADDRESSES, places, serves, sh, start};
use crate::support;

/// The card with four pairs of queues.
const FOUR_PAIRS: &str = "02:00:00:00:00:04";
/// The card with one.
const ONE_PAIR: &str = "02:00:00:00:00:01";

/// What the kernel calls the card with that MAC address.
fn card(mac: &str) -> String {
    let cards = fs::read_dir("/sys/class/net").unwrap();
    let name = cards
        .map(|card| card.unwrap())
        .find(|card| fs::read_to_string(card.path().join("address")).is_ok_and(|found| found.trim() == mac))
        .map(|card| card.file_name().into_string().unwrap());
    name.unwrap_or_else(|| panic!("no network card has the address {mac}"))
}

/// Moves the card into the namespace, where it is called `name`.
fn give(mac: &str, namespace: &Namespace, name: &str) {
    let mut command = Command::new("sleep");
    command.arg("60");
    let holder = namespace.spawn(command).unwrap();
    let script = format!("ip link set {} down name {name} netns {}", card(mac), holder.id());
    let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}");
}

/// A lab whose balancer has the card `mac`, and whose wire has the other one.
fn lab(forwarder: Forwarder, mac: &str, other: &str) -> Lab {
    let lab = support::lab(forwarder, 2);
    // Its other end goes with it.
    sh(&lab.balancer.namespace, "ip link del eth0");
    give(mac, &lab.balancer.namespace, "eth0");
    give(other, &lab.wire, "to-balancer");
    sh(&lab.wire, "ip link set to-balancer master br0 up");
    sh(
        &lab.balancer.namespace,
        &format!("ip link set eth0 up\n{BALANCER_ADDRESSES}"),
    );
    lab
}

/// Starts `lb` natively, and sees connections through; its warnings.
fn served(lab: Lab) -> Vec<String> {
    let rig = start(lab, "native");
    assert_eq!(places(&rig), [("eth0".to_owned(), "native".to_owned())]);
    serves(&rig);
    rig.agent.status().unwrap().warnings
}

#[test]
#[ignore = "needs network cards of virtio_net: cargo xtask kernels"]
fn virtio_net_with_queues_for_all_cpus_natively() {
    for forwarder in [Forwarder::L2dsr, Forwarder::Nat] {
        let warnings = served(lab(forwarder, FOUR_PAIRS, ONE_PAIR));
        assert!(
            !warnings.iter().any(|warning| warning.contains("queue")),
            "{warnings:?}"
        );
    }
}

#[test]
#[ignore = "needs network cards of virtio_net: cargo xtask kernels"]
fn virtio_net_with_too_few_queues_serves_and_says_that_it_is_slower() {
    let warnings = served(lab(Forwarder::L2dsr, ONE_PAIR, FOUR_PAIRS));
    assert!(
        warnings.iter().any(|warning| warning.contains("queue")),
        "{warnings:?}"
    );
}
