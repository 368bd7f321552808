//! A wire that loses, doubles and reorders packets: connections stay where they are, and nothing is dropped but by the wire.

use lb_lab::Forwarder;

use super::{sh, start};
use crate::support::{self, HeldConnections, PORT, requests};

/// What every packet to the balancer and to a backend goes through.
const ROUGH: &str = "netem delay 4ms 2ms reorder 20% 50% duplicate 3% loss 3%";
const HELD: usize = 30;
const ROUNDS: usize = 5;

fn holds(forwarder: Forwarder) {
    let lab = support::lab(forwarder, 3);
    for host in lab.backends.iter().chain([&lab.balancer]) {
        sh(&lab.wire, &format!("tc qdisc add dev {} root {ROUGH}", host.port));
    }
    let rig = start(lab, "native");
    for &vip in &rig.lab.options().vips {
        let mut held = HeldConnections::open(rig.client(), (vip, PORT).into(), HELD);
        let first: Vec<String> = held.ask().into_iter().collect::<Result<_, _>>().unwrap();
        for _ in 1..ROUNDS {
            let again: Vec<String> = held.ask().into_iter().collect::<Result<_, _>>().unwrap();
            assert_eq!(again, first, "{forwarder:?}, {vip}");
        }
        requests(rig.client(), (vip, PORT).into(), 100);
    }
    assert_eq!(rig.drops(), [], "{forwarder:?}");
}

#[test]
#[ignore = "needs the packet scheduler netem: cargo xtask kernels"]
fn direct_answers_survive_a_rough_wire() {
    holds(Forwarder::L2dsr);
}

#[test]
#[ignore = "needs the packet scheduler netem: cargo xtask kernels"]
fn tunnels_survive_a_rough_wire() {
    holds(Forwarder::Gue);
}

#[test]
#[ignore = "needs the packet scheduler netem: cargo xtask kernels"]
fn translated_connections_survive_a_rough_wire() {
    holds(Forwarder::Nat);
    holds(Forwarder::Fullnat);
}
