//! Which interfaces the program runs on. This kernel need not have bonds: `lo`, which no program runs on natively, stands
//! in for one that cannot carry it.

use lb_core::plan::Capacity;
use lb_lab::Namespace;
use lb_userspace::dataplane::{Dataplane, Mode, Settings};
use lb_userspace::netlink::{Carrier, Interface, find_carrier, find_interface};

const CAPACITY: Capacity = Capacity {
    services: 16,
    targets: 64,
    slots: 8192,
    flows: 4096,
    nat_flows: 4096,
};

/// Where the program runs, and in which mode, with `eth0` and `eth1` as the parts of `lo`.
fn attached(namespace: &Namespace, mode: Mode) -> Vec<(String, String)> {
    let find = async |name: &str| -> Interface { find_interface(name).await.unwrap() };
    namespace
        .block_on(async || {
            let bond = Carrier {
                interface: find("lo").await,
                slaves: vec![find("eth0").await, find("eth1").await],
                vlan: None,
                no_native: None,
                advice: vec!["mind the gap".into()],
            };
            let mut dataplane = Dataplane::load(&CAPACITY, 1, Settings::default()).unwrap();
            let attached = dataplane.attach([bond], mode).unwrap();
            assert!(attached[0].warnings.contains(&"mind the gap".to_owned()));
            attached
                .into_iter()
                .map(|one| (one.interface.name, one.mode.to_string()))
                .collect()
        })
        .unwrap()
}

fn named(places: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, mode): &(&str, &str)| ((*name).to_owned(), (*mode).to_owned());
    places.iter().map(own).collect()
}

#[test]
fn a_bond_that_cannot_carry_the_program_leaves_it_to_its_parts() {
    let namespace = Namespace::new("balancer").unwrap();
    namespace
        .netlink(async |netlink| {
            netlink.add_veth("eth0", "peer0").await?;
            netlink.add_veth("eth1", "peer1").await
        })
        .unwrap();
    let parts = named(&[("eth0", "native"), ("eth1", "native")]);
    assert_eq!(attached(&namespace, Mode::Native), parts);
    assert_eq!(
        attached(&namespace, Mode::Auto),
        parts,
        "natively on the parts is better"
    );
    assert_eq!(
        attached(&namespace, Mode::Generic),
        named(&[("eth0", "generic"), ("eth1", "generic")]),
        "tags are seen on the parts alone"
    );
}

#[test]
fn an_interface_that_lies_on_no_other_is_its_own_carrier() {
    let namespace = Namespace::new("balancer").unwrap();
    namespace
        .netlink(async |netlink| netlink.add_veth("eth0", "peer0").await)
        .unwrap();
    let carrier = namespace
        .block_on(async || find_carrier("eth0").await.unwrap())
        .unwrap();
    assert_eq!(carrier.interface.name, "eth0");
    // A veth lies on its peer, which is no VLAN device's business.
    assert!(
        carrier.slaves.is_empty() && carrier.advice.is_empty(),
        "{carrier:?}"
    );
}

#[test]
fn a_driver_that_refuses_native_mode_is_quoted() {
    let namespace = Namespace::new("balancer").unwrap();
    namespace
        .netlink(async |netlink| {
            netlink.add_veth("eth0", "peer0").await?;
            netlink.configure("peer0", [2, 0, 0, 0, 0, 2], 9000).await?;
            netlink.set_up("eth0").await?;
            netlink.set_up("peer0").await
        })
        .unwrap();
    let why = namespace
        .block_on(async || {
            let eth0 = find_interface("eth0").await.unwrap();
            let mut dataplane = Dataplane::load(&CAPACITY, 1, Settings::default()).unwrap();
            format!("{:#}", dataplane.attach([eth0], Mode::Native).unwrap_err())
        })
        .unwrap();
    assert!(why.contains("Peer MTU is too large to set XDP"), "{why}");
    let eth0 = namespace.block_on(async || find_interface("eth0").await).unwrap();
    assert!(eth0.unwrap().xdp.is_empty(), "asking for words attaches nothing");
}
