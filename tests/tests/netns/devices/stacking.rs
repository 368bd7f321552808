//! VLAN devices, bonds, bridges and macvlans, and what lies on what: real connections where `lb` serves, and words where
//! it cannot. The device that `lb` is to run on is always called `eth0`, and lies on `port0` and `port1`.

use lb_lab::Lab;

use super::{places, refused, serves, sh, stacked, start};
use crate::support::Rig;

/// Puts everybody but the balancer into VLAN 100, and makes its ports carry tags.
const VLAN_100: &str = "ip link set br0 type bridge vlan_filtering 1
    for port in $HOSTS; do bridge vlan del dev $port vid 1; bridge vlan add dev $port vid 100 pvid untagged; done
    for port in to-balancer to-balancer-2; do bridge vlan add dev $port vid 100; done";
/// The balancer's first port in VLAN 200 around that.
const OUTER_200: &str = "ip link set to-balancer nomaster
    ip link add link to-balancer name outer type vlan id 200
    ip link set outer up master br0
    bridge vlan add dev outer vid 100";
/// The other end of a bond that speaks LACP.
const WIRE_LACP: &str = "ip link add wirebond type bond mode 802.3ad miimon 100 lacp_rate fast
    for port in to-balancer to-balancer-2; do
        ip link set $port nomaster; ip link set $port down; ip link set $port master wirebond; ip link set $port up
    done
    ip link set wirebond up; ip link set wirebond master br0";

/// Commands that make a bond of that name and mode of the ports.
fn bond(name: &str, mode: &str) -> String {
    format!(
        "ip link add {name} type bond mode {mode} miimon 100
        for port in port0 port1; do ip link set $port down; ip link set $port master {name}; ip link set $port up; done
        ip link set {name} up"
    )
}

fn vlan(name: &str, id: u16, on: &str) -> String {
    format!("ip link add link {on} name {name} type vlan id {id}; ip link set {name} up")
}

fn macvlan(name: &str) -> String {
    format!("ip link add link port0 name {name} type macvlan mode bridge; ip link set {name} up")
}

fn bridge(name: &str) -> String {
    format!("ip link add {name} type bridge; ip link set {name} up; ip link set port0 master {name}")
}

/// Starts `lb` on `eth0`, and sees connections through; `on` is where the program has to run.
fn served(lab: Lab, mode: &str, on: &[(&str, &str)]) -> Rig {
    let rig = start(lab, mode);
    let on: Vec<_> = on
        .iter()
        .map(|&(name, mode)| (name.to_owned(), mode.to_owned()))
        .collect();
    assert_eq!(places(&rig), on);
    serves(&rig);
    rig
}

#[test]
#[ignore = "needs VLAN and bond devices: cargo xtask kernels"]
fn a_vlan_device_natively_and_generically() {
    let lab = || stacked(&[VLAN_100], &[vlan("eth0", 100, "port0")]);
    served(lab(), "native", &[("port0", "native")]);
    served(lab(), "generic", &[("eth0", "generic")]);
}

#[test]
#[ignore = "needs VLAN and bond devices: cargo xtask kernels"]
fn a_vlan_device_on_another_natively_and_generically() {
    let stack = [vlan("mid", 200, "port0"), vlan("eth0", 100, "mid")];
    let lab = || stacked(&[VLAN_100, OUTER_200], &stack);
    served(lab(), "native", &[("port0", "native")]);
    served(lab(), "generic", &[("eth0", "generic")]);
}

/// Takes the bond's active part down, and sees that the other one serves.
fn fail_over(rig: &Rig) {
    sh(&rig.lab.balancer.namespace, "ip link set port0 down; sleep 1");
    serves(rig);
}

#[test]
#[ignore = "needs VLAN and bond devices: cargo xtask kernels"]
fn a_bond_of_one_active_part_natively_and_generically() {
    let lab = || stacked(&[], &[bond("eth0", "active-backup")]);
    fail_over(&served(lab(), "native", &[("eth0", "native")]));
    let parts = [("port0", "generic"), ("port1", "generic")];
    fail_over(&served(lab(), "generic", &parts));
}

#[test]
#[ignore = "needs VLAN and bond devices: cargo xtask kernels"]
fn a_bond_with_lacp_natively_and_generically() {
    let lab = || stacked(&[WIRE_LACP], &[bond("eth0", "802.3ad")]);
    served(lab(), "native", &[("eth0", "native")]);
    served(lab(), "generic", &[("port0", "generic"), ("port1", "generic")]);
}

#[test]
#[ignore = "needs VLAN and bond devices: cargo xtask kernels"]
fn a_vlan_device_on_a_bond_natively_and_generically() {
    let stack = [bond("low", "active-backup"), vlan("eth0", 100, "low")];
    let lab = || stacked(&[VLAN_100], &stack);
    fail_over(&served(lab(), "native", &[("low", "native")]));
    fail_over(&served(lab(), "generic", &[("eth0", "generic")]));
}

#[test]
#[ignore = "needs VLAN and bond devices: cargo xtask kernels"]
fn what_lies_on_a_macvlan_is_for_generic_mode() {
    let stack = [macvlan("low"), vlan("eth0", 100, "low")];
    served(stacked(&[VLAN_100], &stack), "generic", &[("eth0", "generic")]);
    refused(
        &stack,
        "native",
        &["driver macvlan has no native XDP", "--mode generic"],
    );
}

#[test]
#[ignore = "needs VLAN and bond devices: cargo xtask kernels"]
fn a_bond_of_vlan_devices_is_for_generic_mode() {
    let stack = [
        vlan("v0", 100, "port0"),
        vlan("v1", 100, "port1"),
        bond("eth0", "active-backup").replace("port0 port1", "v0 v1"),
    ];
    let parts = [("v0", "generic"), ("v1", "generic")];
    served(stacked(&[VLAN_100], &stack), "generic", &parts);
    refused(
        &stack,
        "native",
        &["driver vlan has no native XDP", "--mode generic"],
    );
}

#[test]
#[ignore = "needs VLAN and bond devices: cargo xtask kernels"]
fn a_vrf_is_refused() {
    let stack = ["ip link add eth0 type vrf table 10; ip link set port0 master eth0".to_owned()];
    for mode in ["native", "generic", "auto"] {
        refused(&stack, mode, &["name the interfaces in it instead (port0)"]);
    }
}

#[test]
fn a_macvlan_is_for_generic_mode() {
    let stack = [macvlan("eth0")];
    served(stacked(&[], &stack), "generic", &[("eth0", "generic")]);
    refused(
        &stack,
        "native",
        &["driver macvlan has no native XDP", "--mode generic"],
    );
}

#[test]
fn a_bridge_is_for_generic_mode() {
    let stack = [bridge("eth0")];
    served(stacked(&[], &stack), "generic", &[("eth0", "generic")]);
    refused(
        &stack,
        "native",
        &["driver bridge has no native XDP", "--mode generic"],
    );
}

#[test]
fn a_port_of_a_bridge_is_for_generic_mode() {
    // The bridge has the addresses, and the port the name that is given to lb.
    let stack = "ip link set port0 down; ip link set port0 name eth0; ip link add br0 type bridge; ip link set br0 up; ip link set eth0 master br0"
        .to_owned();
    refused(
        &[stack],
        "native",
        &["eth0 is a port of the bridge br0", "--mode generic"],
    );
}
