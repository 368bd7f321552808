//! What clients notice of a failing backend.
//!
//! What this version promises, and these tests hold it to: a connection lives as long as the owner of its slot stays
//! the same and well. When a backend falls, its own slots move and no others; no new connection goes to a backend once it is
//! listed as down.

use std::{collections::BTreeMap, net::SocketAddr};

use lb_api::view::BackendState;
use lb_lab::{Forwarder, traffic::load::Load};

use super::support::{
    HeldConnections, PORT, Rig, Service, backend_addresses, lab, patient_load, requests, wait_until,
};

fn killed_backend_leaves(forwarder: Forwarder, v6: bool) {
    let lab = lab(forwarder, 5);
    let vip = lab.options().vips[usize::from(v6)];
    let target = SocketAddr::new(vip, PORT);
    let addresses = backend_addresses(&lab, vip);
    let service = Service::new(forwarder, &[vip])
        .key("slots", 4096)
        .backends(&addresses);
    let mut rig = Rig::new(lab, &service);

    let mut held = HeldConnections::open(rig.client(), target, 200);
    let owners = owners(&rig, &held, target);
    for (owner, answer) in owners.iter().zip(held.ask()) {
        assert_eq!(answer.as_ref(), Ok(owner), "the owner of the slot answers");
    }

    rig.kill_server(2);
    rig.wait_for_state("web", addresses[2], BackendState::Down);
    let reason = rig.backend("web", addresses[2]).reason.unwrap_or_default();
    assert!(
        reason.contains("refused"),
        "the reason of the failure is {reason:?}"
    );
    let shares = requests(rig.client(), target, 200);
    assert_eq!(
        shares.len(),
        4,
        "new connections go to the other four: {shares:?}"
    );
    assert!(!shares.contains_key("backend-3"), "{shares:?}");

    let owners_now = self::owners(&rig, &held, target);
    for ((before, now), answer) in owners.iter().zip(&owners_now).zip(held.ask()) {
        assert_ne!(now, "backend-3", "a slot is still the dead backend's");
        if before == "backend-3" {
            assert!(answer.is_err(), "it was the dead backend's, and now {answer:?}");
            continue;
        }
        assert_eq!(
            (now, answer.as_ref()),
            (before, Ok(before)),
            "the slot has not moved"
        );
    }

    rig.revive_server(2);
    rig.wait_for_state("web", addresses[2], BackendState::Up);
    let shares = requests(rig.client(), target, 200);
    assert_eq!(shares.len(), 5, "the fifth is back: {shares:?}");
}

/// The name of the backend that each held connection's packets go to.
fn owners(rig: &Rig, held: &HeldConnections, target: SocketAddr) -> Vec<String> {
    let names: BTreeMap<String, &str> = rig
        .lab
        .backends
        .iter()
        .map(|host| (host.address_like(target.ip()).to_string(), host.name.as_str()))
        .collect();
    let owner = |port| {
        let explained = rig.explain_tcp(port, target);
        names[&explained.backend.unwrap()].to_owned()
    };
    held.ports().into_iter().map(owner).collect()
}

#[test]
fn killed_l2dsr_backend_takes_only_its_own_connections_along() {
    killed_backend_leaves(Forwarder::L2dsr, false);
}

#[test]
fn killed_ipip_backend_takes_only_its_own_connections_along() {
    killed_backend_leaves(Forwarder::Ipip, true);
}

#[test]
fn killed_nat_backend_takes_only_its_own_connections_along() {
    killed_backend_leaves(Forwarder::Nat, false);
}

#[test]
fn silent_host_leaves_all_services_at_once() {
    let lab = lab(Forwarder::L2dsr, 3);
    let vips = lab.options().vips.clone();
    let addresses = backend_addresses(&lab, vips[0]);
    let check = r#"{ type = "ping", interval = "200ms", fast_interval = "50ms", timeout = "500ms", rise = 2, fall = 3 }"#;
    let web = Service::new(Forwarder::L2dsr, &vips[..1])
        .key("check", check)
        .backends(&addresses);
    let other = web.clone().text("name", "other").key("port", 8080);
    let rig = Rig::on_ports(lab, &format!("{web}{other}"), &[PORT, 8080]);
    rig.wait_until_all_up();

    let pull = |port: &str, out: bool| {
        let pull = async |netlink: &lb_lab::Netlink| match out {
            true => netlink.set_down(port).await,
            false => netlink.set_up(port).await,
        };
        rig.lab.wire.netlink(pull).unwrap();
    };
    for (out, state) in [(true, BackendState::Down), (false, BackendState::Up)] {
        pull("to-backend-2", out);
        wait_until(&format!("backend-2 is {state} for both services"), || {
            let view = rig.agent.services().unwrap();
            let states = view.services.iter().flat_map(|service| {
                let of_host = service
                    .backends
                    .iter()
                    .filter(|backend| backend.address == addresses[1]);
                of_host.map(|backend| backend.state)
            });
            let states: Vec<_> = states.collect();
            assert_eq!(states.len(), 2);
            assert_eq!(states[0], states[1], "one view shows the host in two states");
            // Its neighbour entry may fail before its third ping does.
            states[0] == state || (out && states[0] == BackendState::Unresolved)
        });
        for port in [PORT, 8080] {
            let shares = requests(rig.client(), SocketAddr::new(vips[0], port), 100);
            assert_eq!(shares.contains_key("backend-2"), !out, "port {port}: {shares:?}");
        }
    }
}

/// The clients' view from before the failure until long after it: once the backend is listed as down, nothing fails.
#[test]
fn requests_fail_only_until_the_failure_is_detected() {
    let lab = lab(Forwarder::Ipip, 4);
    let vip = lab.options().vips[0];
    let addresses = backend_addresses(&lab, vip);
    let service = Service::new(Forwarder::Ipip, &[vip]).backends(&addresses);
    let mut rig = Rig::new(lab, &service);
    let load = Load::start(&rig.client().namespace, patient_load(SocketAddr::new(vip, PORT))).unwrap();
    wait_until("the load runs", || load.records_from(0).len() > 100);

    let killed = std::time::Instant::now();
    rig.kill_server(0);
    rig.wait_for_state("web", addresses[0], BackendState::Down);
    let detected = std::time::Instant::now();
    let done = load.records_from(0).len();
    wait_until("the load goes on", || load.records_from(0).len() > done + 300);
    rig.revive_server(0);
    rig.wait_for_state("web", addresses[0], BackendState::Up);
    let done = load.records_from(0).len();
    wait_until("the load goes on", || load.records_from(0).len() > done + 300);

    let records = load.stop().unwrap();
    let returned = records.iter().rev().take(200);
    assert!(
        returned
            .filter(|record| record.outcome == Ok("backend-1".into()))
            .count()
            > 20
    );
    for record in records {
        // A request that was under way while slots moved may have lost its backend in the middle.
        let untouched = record.ended < killed || record.started > detected;
        if let (Err(failure), true) = (&record.outcome, untouched) {
            panic!(
                "request {} failed ({failure}), {:?} after the kill and {:?} after the detection",
                record.connection,
                record.started.saturating_duration_since(killed),
                record.started.saturating_duration_since(detected)
            );
        }
    }
}
