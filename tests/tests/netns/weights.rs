//! Weights and states as real connections show them.
//!
//! What this version promises: a change holds for every connection that begins after its answer; one that is under way
//! then may break if its slot moves. Nothing else fails.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use lb_api::view::BackendState;
use lb_lab::{Forwarder, traffic::load::Load};

use super::support::{PORT, Rig, Service, backend_addresses, lab, patient_load, requests, wait_until};

fn rig(forwarder: Forwarder, backends: usize) -> (Rig, SocketAddr, Vec<IpAddr>) {
    let lab = lab(forwarder, backends);
    let vip = lab.options().vips[0];
    let addresses = backend_addresses(&lab, vip);
    let service = Service::new(forwarder, &[vip]).backends(&addresses);
    (Rig::new(lab, &service), SocketAddr::new(vip, PORT), addresses)
}

#[test]
fn connections_follow_the_weights() {
    const CONNECTIONS: u64 = 2400;
    let lab = lab(Forwarder::L2dsr, 2);
    let vip = lab.options().vips[0];
    let addresses = backend_addresses(&lab, vip);
    let service = Service::new(Forwarder::L2dsr, &[vip])
        .backend_with(addresses[0], ", weight = 1")
        .backend_with(addresses[1], ", weight = 3");
    let rig = Rig::new(lab, &service);
    assert!((rig.backend("web", addresses[1]).share - 0.75).abs() < 0.005);

    let shares = requests(rig.client(), SocketAddr::new(vip, PORT), CONNECTIONS);
    let light = shares["backend-1"] as f64;
    // A quarter of the connections, give or take five standard deviations of such a sample, and the slots' rounding.
    let (mean, deviation) = (
        0.25 * CONNECTIONS as f64,
        (0.25 * 0.75 * CONNECTIONS as f64).sqrt(),
    );
    assert!(
        (light - mean).abs() <= 5.0 * deviation + 0.005 * CONNECTIONS as f64,
        "{shares:?}"
    );
    let view = rig.agent.services().unwrap();
    assert_eq!(
        view.services[0].flows, CONNECTIONS,
        "each connection is counted as one flow"
    );
    assert_eq!(view.services[0].backends[0].flows, shares["backend-1"] as u64);
}

#[test]
fn weights_and_states_hold_from_their_answer_on() {
    let (rig, target, addresses) = rig(Forwarder::Nat, 3);
    let second = addresses[1].to_string();
    let gets_traffic = || requests(rig.client(), target, 60).contains_key("backend-2");

    rig.lb(&["backend", "set", "web", &second, "--weight", "0"]);
    assert!(!gets_traffic(), "weight 0");
    assert_eq!(rig.backend("web", addresses[1]).state, BackendState::Up);
    rig.lb(&["backend", "set", "web", &second, "--weight", "2"]);
    assert!(gets_traffic(), "weight 2");

    for (verb, state) in [("drain", BackendState::Drain), ("maint", BackendState::Maint)] {
        rig.lb(&["backend", verb, "web", &second]);
        assert!(!gets_traffic(), "{verb}");
        let backend = rig.backend("web", addresses[1]);
        assert_eq!((backend.state, backend.share), (state, 0.0));
        rig.lb(&["backend", "ready", "web", &second]);
        // Whoever comes from maint is checked first.
        rig.wait_for_state("web", addresses[1], BackendState::Up);
        assert!(gets_traffic(), "ready after {verb}");
    }
}

#[test]
fn backend_in_maint_is_not_checked() {
    let (mut rig, _, addresses) = rig(Forwarder::L2dsr, 2);
    rig.lb(&["backend", "maint", "web", &addresses[0].to_string()]);
    let connections = |server: usize| {
        let server = rig.servers[server].as_ref().unwrap();
        server.stats().unwrap().connections
    };
    let (before, others) = (connections(0), connections(1));
    // The other one's checks are the measure of time.
    wait_until("the other is checked", || connections(1) >= others + 6);
    let after = connections(0);
    assert!(
        after <= before + 2,
        "{before} connections became {after}: checks go on"
    );
    // One that was dead all along does not come back by the operator's word alone.
    rig.kill_server(0);
    rig.lb(&["backend", "ready", "web", &addresses[0].to_string()]);
    rig.wait_for_state("web", addresses[0], BackendState::Down);
}

/// Backends are drained, removed, added and made ready while requests run, each over a connection of its own.
#[test]
fn changes_break_at_most_what_is_under_way() {
    let (rig, target, addresses) = rig(Forwarder::L2dsr, 4);
    let load = Load::start(&rig.client().namespace, patient_load(target)).unwrap();
    let go_on = || {
        let done = load.records_from(0).len();
        wait_until("the load goes on", || load.records_from(0).len() >= done + 150);
    };
    let third = addresses[2].to_string();
    let mut changes = Vec::new();
    let mut removals = Vec::new();
    for _ in 0..3 {
        for verb in ["drain", "remove", "add"] {
            go_on();
            let started = Instant::now();
            rig.lb(&["backend", verb, "web", &third]);
            match verb {
                // Drained, it has no slot to lose.
                "remove" => removals.push((started, Instant::now())),
                "drain" => changes.push((started, Instant::now())),
                // Its slots move when its check has become good.
                _ => {
                    rig.wait_for_state("web", addresses[2], BackendState::Up);
                    changes.push((started, Instant::now()));
                }
            }
        }
    }
    go_on();
    let records = load.stop().unwrap();
    assert_eq!(rig.drops(), [], "each packet found a backend at any time");
    let last = records.iter().rev().take(100);
    assert!(
        last.filter(|record| record.outcome == Ok("backend-3".into()))
            .count()
            > 5
    );
    for record in &records {
        let met = |&(from, to): &(Instant, Instant)| record.started <= to && record.ended >= from;
        if let Err(failure) = &record.outcome {
            assert!(
                changes.iter().any(met),
                "request {} failed ({failure}) though no slot moved during it; during a removal: {}",
                record.connection,
                removals.iter().any(met)
            );
        }
    }
    let drained = changes.iter().step_by(2).zip(&removals);
    for ((_, from), (to, _)) in drained {
        let between = records
            .iter()
            .filter(|record| record.started > *from && record.ended < *to);
        let to_it = between
            .filter(|record| record.outcome == Ok("backend-3".into()))
            .count();
        assert_eq!(to_it, 0, "a drained backend gets no new connections");
    }
}
