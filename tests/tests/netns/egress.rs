//! Interfaces that XDP cannot send out of: packets for backends behind them would be lost, so that these are unresolved until
//! that changes. What is refused all the same is counted.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _},
    process::Command,
};

use aya::maps::{Map, MapData, ProgramArray, xdp::DevMapHash};
use lb_api::view::BackendState;
use lb_lab::{Forwarder, Lab, LabOptions, LbOptions, Namespace, traffic::http};

use super::support::{
    NO_CHECK, PORT, Rig, SILENCE, Service, backend_addresses, get, lab, requests, rig::lb, wait_until,
};

fn sh(namespace: &Namespace, script: &str) {
    let run = || Command::new("sh").args(["-ec", script]).output().unwrap();
    let output = namespace.run(run).unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

#[test]
fn a_backend_behind_an_interface_that_takes_nothing_is_unresolved_until_it_does() {
    let lab = lab(Forwarder::L2dsr, 1);
    let (vip, far) = (lab.options().vips[0], IpAddr::from([10, 7, 0, 2]));
    let host = lab.backends[0].namespace.clone();
    lab.balancer
        .namespace
        .netlink(async |netlink| {
            netlink.add_veth("eth9", "peer").await?;
            netlink.move_to("peer", &host, "eth9").await?;
            netlink.set_up("eth9").await?;
            netlink.add_address("eth9", [10, 7, 0, 1].into(), 24).await
        })
        .unwrap();
    host.netlink(async |netlink| {
        netlink.set_up("eth9").await?;
        netlink.add_address("eth9", far, 24).await?;
        netlink.wait_until_up("eth9").await
    })
    .unwrap();
    let near = lab.backends[0].address_like(vip);
    let service = Service::new(Forwarder::L2dsr, &[vip])
        .key("check", NO_CHECK)
        .backend(near)
        .backend(far);
    let options = LbOptions::new(lb(), Some(service.to_string()));
    let mut rig = Rig::with(lab, &options, &[PORT]);
    rig.wait_for_state("web", near, BackendState::Up);
    wait_until("lb says why nothing can be sent there", || {
        let backend = rig.backend("web", far);
        let reason = backend.reason.unwrap_or_default();
        backend.state == BackendState::Unresolved && reason.contains("out of eth9")
    });
    let shares = requests(rig.client(), SocketAddr::new(vip, PORT), 40);
    assert_eq!(shares.len(), 1, "nothing is lost: {shares:?}");
    // With a program at its peer, the veth takes what is sent to it.
    rig.lab.attach_pass(&host, "eth9").unwrap();
    rig.wait_for_state("web", far, BackendState::Up);
}

#[test]
fn a_backend_behind_one_interface_too_many_is_unresolved_until_there_is_room() {
    const INTERFACES: u8 = 65;
    let lab = lab(Forwarder::Ipip, 1);
    let vip = lab.options().vips[0];
    sh(
        &lab.balancer.namespace,
        &format!(
            "for i in $(seq {INTERFACES}); do
                ip link add d$i type veth peer name p$i; ip link set d$i up; ip link set p$i up
                ip route add 10.8.0.$i/32 dev d$i
                ip neigh add 10.8.0.$i lladdr 02:00:00:00:08:01 dev d$i nud permanent
            done"
        ),
    );
    let backends: Vec<IpAddr> = (1..=INTERFACES).map(|i| IpAddr::from([10, 8, 0, i])).collect();
    let service = Service::new(Forwarder::Ipip, &[vip])
        .key("check", NO_CHECK)
        .backends(&backends);
    let options = LbOptions {
        mode: "generic".to_owned(),
        ..LbOptions::new(lb(), Some(service.to_string()))
    };
    let rig = Rig::with(lab, &options, &[]);
    let states = || -> Vec<_> {
        let view = rig.agent.services().unwrap();
        let backends = view.services.into_iter().flat_map(|service| service.backends);
        backends.map(|backend| (backend.state, backend.reason)).collect()
    };
    let up = |states: &[(BackendState, Option<String>)]| {
        states
            .iter()
            .filter(|(state, _)| *state == BackendState::Up)
            .count()
    };
    // The interface that packets come by has a place, too.
    wait_until("all but two are up", || up(&states()) == 63);
    let full = |reason: &Option<String>| reason.as_ref().is_some_and(|why| why.contains("64 interfaces"));
    let without = states().iter().filter(|(_, reason)| full(reason)).count();
    assert_eq!(without, 2, "{:?}", states());
    // Interfaces go, and their places with them.
    sh(
        &rig.lab.balancer.namespace,
        "ip link del d1; ip link del d2; ip link del d3",
    );
    wait_until("others have their places", || {
        let states = states();
        states.iter().all(|(_, reason)| !full(reason)) && up(&states) == 62
    });
}

/// A map of the agent's dataplane.
fn pinned(rig: &Rig, name: &str) -> MapData {
    MapData::from_pin(rig.agent.pins().pin_dir().join("maps").join(name)).unwrap()
}

#[test]
fn packets_that_cannot_be_redirected_are_counted() {
    let lab = Lab::new(LabOptions {
        backends: 1,
        two_interfaces: true,
        ..LabOptions::new(Forwarder::L2dsr)
    })
    .unwrap();
    let vip = lab.options().vips[0];
    let service = Service::new(Forwarder::L2dsr, &[vip]).backends(&backend_addresses(&lab, vip));
    let rig = Rig::new(lab, &service);
    let target = SocketAddr::new(vip, PORT);
    assert_eq!(requests(rig.client(), target, 10).len(), 1);
    let mut egress: DevMapHash<_> = Map::DevMapHash(pinned(&rig, "EGRESS")).try_into().unwrap();
    wait_until("packets are refused, and counted", || {
        // The agent puts them in again every second.
        for interface in egress.keys().filter_map(Result::ok).collect::<Vec<u32>>() {
            let _ = egress.remove(interface);
        }
        let _ = http::fetch(&rig.client().namespace, target, get("/"), SILENCE);
        rig.count("no-egress") > 0
    });
    assert_eq!(
        requests(rig.client(), target, 10).len(),
        1,
        "they are let out again"
    );
}

#[test]
fn packets_that_find_no_program_for_the_detour_are_counted() {
    let lab = lab(Forwarder::L2dsr, 1);
    let vip = lab.options().vips[0];
    let service = Service::new(Forwarder::L2dsr, &[vip])
        .key("mss_clamp", "true")
        .backends(&backend_addresses(&lab, vip));
    let rig = Rig::new(lab, &service);
    let target = SocketAddr::new(vip, PORT);
    assert_eq!(requests(rig.client(), target, 10).len(), 1);
    let mut detours: ProgramArray<_> = Map::ProgramArray(pinned(&rig, "DETOURS")).try_into().unwrap();
    detours.clear_index(&0).unwrap();
    let answer = http::fetch(&rig.client().namespace, target, get("/"), SILENCE);
    assert!(answer.is_err(), "a SYN takes the detour");
    assert!(rig.count("no-detour") > 0);
}

#[test]
fn a_change_that_the_kernel_does_not_take_changes_nothing() {
    const MAP_FREEZE: libc::c_long = 22;
    let lab = lab(Forwarder::L2dsr, 1);
    let vip = lab.options().vips[0];
    let service = Service::new(Forwarder::L2dsr, &[vip]).backends(&backend_addresses(&lab, vip));
    let rig = Rig::new(lab, &service);
    let target = SocketAddr::new(vip, PORT);
    let sources = pinned(&rig, "SOURCES");
    let attributes = [sources.fd().as_fd().as_raw_fd().cast_unsigned(), 0];
    // SAFETY: the kernel reads 4 bytes of attributes for this command, which live until the call returns.
    let frozen = unsafe { libc::syscall(libc::SYS_bpf, MAP_FREEZE, attributes.as_ptr(), 4) };
    assert_eq!(frozen, 0, "the map takes no writes any more");
    let generation = rig.agent.status().unwrap().generation;
    let refused = rig
        .agent
        .cli(&["service", "set", "web", "--deny", "10.1.0.0/24"])
        .unwrap();
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && errors.contains("source list"),
        "{errors}"
    );
    assert_eq!(rig.agent.status().unwrap().generation, generation);
    assert_eq!(requests(rig.client(), target, 10).len(), 1, "nobody is denied");
}
