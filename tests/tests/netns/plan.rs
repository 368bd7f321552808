//! Plans come true: what `lb plan` says about a change is what the change then does, and before that nothing happens.

use std::net::{IpAddr, SocketAddr};

use lb_api::{
    plan::{Fate, PlanView, ServicePlan},
    view::BackendState,
};
use lb_lab::Forwarder;

use super::support::{HeldConnections, PORT, Rig, Service, backend_addresses, lab};

const SLOTS: u32 = 4096;
const CONNECTIONS: usize = 200;

/// A service `web` of four backends with weights that do not divide its slots.
fn rig() -> (Rig, SocketAddr, Vec<IpAddr>) {
    let lab = lab(Forwarder::L2dsr, 4);
    let vip = lab.options().vips[0];
    let addresses = backend_addresses(&lab, vip);
    let mut service = Service::new(Forwarder::L2dsr, &[vip]).key("slots", SLOTS);
    for (address, weight) in addresses.iter().zip([3, 1, 2, 5]) {
        service = service.backend_with(*address, &format!(", weight = {weight}"));
    }
    (Rig::new(lab, &service), SocketAddr::new(vip, PORT), addresses)
}

/// The plan of a change that concerns `web` alone.
fn plan(rig: &Rig, change: &[&str]) -> (u64, ServicePlan) {
    let line = [&["plan"], change, &["--json"]].concat();
    let PlanView {
        generation,
        mut services,
    } = serde_json::from_str(&rig.lb(&line)).unwrap();
    assert_eq!(services.len(), 1, "{services:?}");
    (generation, services.remove(0))
}

/// Each backend's slots now.
fn slots(rig: &Rig, addresses: &[IpAddr]) -> Vec<u32> {
    let share = |address: &IpAddr| rig.backend("web", *address).share;
    let slots = |address| (share(address) * f64::from(SLOTS)).round() as u32;
    addresses.iter().map(slots).collect()
}

/// Each backend's slots as the plan has them: before and after.
fn planned(plan: &ServicePlan, addresses: &[IpAddr]) -> (Vec<u32>, Vec<u32>) {
    let find = |address: &IpAddr| plan.backends.iter().find(|b| b.address == *address).unwrap();
    let both = |address| (find(address).slots_before, find(address).slots);
    addresses.iter().map(both).unzip()
}

#[test]
fn planned_removal_changes_nothing_and_comes_true() {
    let (rig, target, addresses) = rig();
    let third = addresses[2].to_string();
    let mut held = HeldConnections::open(rig.client(), target, CONNECTIONS);
    let answers = held.ask();
    let of_third = answers.iter().filter(|a| a.as_deref() == Ok("backend-3")).count() as u64;

    let before = slots(&rig, &addresses);
    let owners = |rig: &Rig| -> Vec<_> {
        let ports = held.ports();
        ports
            .iter()
            .map(|port| rig.explain_tcp(*port, target).backend)
            .collect()
    };
    let owners_before = owners(&rig);
    let (generation, drain) = plan(&rig, &["backend", "remove", "web", &third]);
    let (_, cut) = plan(&rig, &["backend", "remove", "web", &third, "--now"]);
    assert_eq!(slots(&rig, &addresses), before, "a plan moves nothing");
    assert_eq!(owners(&rig), owners_before, "a plan moves nothing");
    assert_eq!(rig.agent.services().unwrap().generation, generation);
    assert_eq!(rig.backend("web", addresses[2]).state, BackendState::Up);

    assert_eq!(planned(&drain, &addresses).0, before);
    assert_eq!(planned(&cut, &addresses), planned(&drain, &addresses));
    for plan in [&drain, &cut] {
        assert_eq!(
            (plan.moved, plan.fewest, plan.slots),
            (before[2], before[2], SLOTS)
        );
        assert_eq!(plan.flows, Some(CONNECTIONS as u64));
    }
    assert_eq!((drain.flows_moved, drain.flows_cut), (Some(of_third), Some(0)));
    assert_eq!((cut.flows_moved, cut.flows_cut), (Some(0), Some(of_third)));
    assert_eq!(
        (drain.backends[2].fate, cut.backends[2].fate),
        (Fate::Drains, Fate::Cut)
    );

    let generation = generation.to_string();
    rig.lb(&["backend", "remove", "web", &third, "--if-generation", &generation]);
    assert_eq!(slots(&rig, &addresses), planned(&drain, &addresses).1);
    // The plan was for a generation that is gone.
    rig.lb_refuses(4, &["plan", "reload", "--if-generation", &generation]);
}

#[test]
fn planned_weights_and_reloads_come_true() {
    let (rig, target, addresses) = rig();
    let first = addresses[0].to_string();
    let change = ["backend", "set", "web", first.as_str(), "--weight", "9"];
    let (_, weight) = plan(&rig, &change);
    let before = slots(&rig, &addresses);
    rig.lb(&change);
    let after = slots(&rig, &addresses);
    assert_eq!(planned(&weight, &addresses), (before.clone(), after.clone()));
    // Nobody but the first gains anything, and it gains what the plan says.
    assert_eq!(
        (weight.moved, weight.fewest),
        (after[0] - before[0], after[0] - before[0])
    );

    let service = Service::new(Forwarder::L2dsr, &[target.ip()])
        .key("slots", SLOTS)
        .backends(&addresses[..2]);
    rig.write_config(&service);
    let tried = rig.lb(&["reload", "--dry-run", "--json"]);
    let (_, reload) = plan(&rig, &["reload"]);
    let PlanView { services, .. } = serde_json::from_str(&tried).unwrap();
    assert_eq!(services, std::slice::from_ref(&reload));
    assert_eq!(slots(&rig, &addresses), after, "a plan moves nothing");
    rig.lb(&["reload"]);
    assert_eq!(slots(&rig, &addresses), planned(&reload, &addresses).1);
}
