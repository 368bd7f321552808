//! Drains as operators meet them: by backend, by host and zone, by removal and by reload.

use std::{
    io::Read as _,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lb_api::view::{BackendState, DrainView};
use lb_core::desired::Span;
use lb_lab::{
    Forwarder,
    traffic::load::{Load, Record},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::support::{
    HeldConnections, PORT, Rig, Service, backend_addresses, lab, patient_load, requests, rig::lb, wait_until,
};

/// Short enough to wait for a drain's end. Whoever looks at the drain first sets it then, by [`end_when_silent`].
const IDLE: &str = "3s";
/// Longer than any test.
const LONG: &str = "10m";

fn web(vip: IpAddr, addresses: &[IpAddr], idle: &str) -> Service {
    Service::new(Forwarder::L2dsr, &[vip])
        .text("idle", idle)
        .backends(addresses)
}

/// A service `web` on all of three backends.
fn rig(idle: &str) -> (Rig, SocketAddr, Vec<IpAddr>) {
    let lab = lab(Forwarder::L2dsr, 3);
    let vip = lab.options().vips[0];
    let addresses = backend_addresses(&lab, vip);
    let service = web(vip, &addresses, idle);
    (Rig::new(lab, &service), SocketAddr::new(vip, PORT), addresses)
}

/// From now on drains of the service end when their backends are silent.
fn end_when_silent(rig: &Rig, service: &str) {
    rig.lb(&["service", "set", service, "--idle", IDLE]);
}

/// How the drain of a backend of `web` stands.
fn drain_of(rig: &Rig, address: IpAddr) -> DrainView {
    rig.backend("web", address).drain.unwrap()
}

/// Whether the backend is leaving; `None` while it does not drain.
fn leaving(rig: &Rig, service: &str, address: IpAddr) -> Option<bool> {
    rig.backend(service, address).drain.map(|drain| drain.leaving)
}

fn addresses_of(rig: &Rig, service: &str) -> Vec<IpAddr> {
    let view = rig.agent.services().unwrap();
    let service = view.services.iter().find(|found| found.name == service).unwrap();
    service.backends.iter().map(|backend| backend.address).collect()
}

#[test]
fn drained_backend_gets_no_new_flow_and_ends_in_maint() {
    let (rig, target, addresses) = rig(LONG);
    let load = Load::start(&rig.client().namespace, patient_load(target)).unwrap();
    wait_until("the load goes on", || load.records_from(0).len() >= 100);
    rig.lb(&["backend", "drain", "web", &addresses[1].to_string()]);
    let drained = Instant::now();
    let backend = rig.backend("web", addresses[1]);
    assert_eq!((backend.state, backend.share), (BackendState::Drain, 0.0));
    assert_eq!(leaving(&rig, "web", addresses[1]), Some(false));
    let list = rig.lb(&["list"]);
    assert!(list.contains("silent for") && list.contains("ends in"), "{list}");

    let since = |record: &&Record| record.started > drained;
    wait_until("the load goes on", || {
        load.records_from(0).iter().filter(since).count() > 100
    });
    end_when_silent(&rig, "web");
    rig.wait_for_state("web", addresses[1], BackendState::Maint);
    assert_eq!(leaving(&rig, "web", addresses[1]), None);
    let records = load.stop().unwrap();
    let later = records.iter().filter(since);
    let servers: Vec<_> = later.map(|record| record.outcome.clone()).collect();
    assert!(
        !servers.contains(&Ok("backend-2".into())),
        "a new flow reached it"
    );
    assert_eq!(rig.drops(), []);
}

#[test]
fn waiting_ends_with_the_drain() {
    let (rig, target, addresses) = rig(IDLE);
    let second = addresses[1].to_string();
    let text = rig.lb(&["backend", "drain", "web", &second, "--wait"]);
    assert!(text.starts_with(&format!("web {second} is drained: ")), "{text}");
    assert_eq!(rig.backend("web", addresses[1]).state, BackendState::Maint);
    assert_eq!(requests(rig.client(), target, 40).get("backend-2"), None);

    // The window is over before it is idle.
    rig.lb(&["service", "set", "web", "--window", "1s", "--idle", LONG]);
    let line = rig.lb(&["drain", &addresses[2].to_string(), "--wait", "--json"]);
    let report: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (
            line.lines().count(),
            &report["outcome"],
            &report["backends"][0]["end"]
        ),
        (1, &json!("drained"), &json!("no-flows"))
    );

    let first = addresses[0].to_string();
    rig.lb(&["service", "set", "web", "--window", "auto"]);
    let error = rig.lb_refuses(
        5,
        &["backend", "drain", "web", &first, "--deadline", "1s", "--wait"],
    );
    assert!(
        error.contains("the deadline ended the drain of 1 of 1 backends"),
        "{error}"
    );
    assert_eq!(rig.backend("web", addresses[0]).state, BackendState::Maint);
    let log = rig.agent.log_end();
    assert!(
        log.contains(&format!("web: {first} is drained: its deadline has passed")),
        "{log}"
    );
}

#[test]
fn an_interrupt_ends_the_waiting_only() {
    let (rig, _, addresses) = rig(LONG);
    let mut command = Command::new(lb());
    command.args([
        "backend",
        "drain",
        "web",
        &addresses[0].to_string(),
        "--wait",
        "--socket",
    ]);
    let command = command
        .arg(rig.agent.socket())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut waiting = command.spawn().unwrap();
    rig.wait_for_state("web", addresses[0], BackendState::Drain);
    // Its first line tells that it waits.
    let mut errors = waiting.stderr.take().unwrap();
    let mut said = vec![0; 1];
    errors.read_exact(&mut said).unwrap();
    kill(Pid::from_raw(waiting.id().cast_signed()), Signal::SIGINT).unwrap();
    errors.read_to_end(&mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("the drain goes on"), "{said}");
    assert_eq!(rig.backend("web", addresses[0]).state, BackendState::Drain);
    rig.lb(&["backend", "ready", "web", &addresses[0].to_string()]);
    rig.wait_for_state("web", addresses[0], BackendState::Up);
}

#[test]
fn removed_backend_leaves_and_then_goes() {
    let (rig, target, addresses) = rig(LONG);
    let third = addresses[2].to_string();
    rig.lb(&["backend", "remove", "web", &third]);
    assert_eq!(leaving(&rig, "web", addresses[2]), Some(true));
    let list = rig.lb(&["list"]);
    assert!(list.contains("leaving, "), "{list}");
    assert_eq!(requests(rig.client(), target, 40).get("backend-3"), None);
    end_when_silent(&rig, "web");
    wait_until("it is gone", || addresses_of(&rig, "web") == addresses[..2]);
    let log = rig.agent.log_end();
    assert!(log.contains(&format!("web: {third} has left: ")), "{log}");

    rig.lb(&["backend", "remove", "web", &addresses[1].to_string(), "--now"]);
    assert_eq!(addresses_of(&rig, "web"), addresses[..1]);
    assert_eq!(requests(rig.client(), target, 20)["backend-1"], 20);
}

#[test]
fn reload_drains_what_the_file_no_longer_has() {
    let (rig, target, addresses) = rig(LONG);
    rig.write_config(&web(target.ip(), &addresses[..2], LONG));
    rig.lb(&["reload"]);
    assert_eq!(leaving(&rig, "web", addresses[2]), Some(true));
    assert_eq!(requests(rig.client(), target, 40).get("backend-3"), None);
    // The file has it again: it stays after all.
    rig.write_config(&web(target.ip(), &addresses, LONG));
    rig.lb(&["reload"]);
    rig.wait_for_state("web", addresses[2], BackendState::Up);
    assert!(requests(rig.client(), target, 60).contains_key("backend-3"));

    rig.write_config(&web(target.ip(), &addresses[..2], LONG));
    rig.lb(&["reload"]);
    assert_eq!(leaving(&rig, "web", addresses[2]), Some(true));
    rig.write_config(&web(target.ip(), &addresses[..2], IDLE));
    rig.lb(&["reload"]);
    wait_until("it is gone", || addresses_of(&rig, "web") == addresses[..2]);
    rig.write_config(&web(target.ip(), &addresses[..1], LONG));
    rig.lb(&["reload", "--now"]);
    assert_eq!(addresses_of(&rig, "web"), addresses[..1]);
}

#[test]
fn host_and_zone_drain_in_all_services_in_one_change() {
    let lab = lab(Forwarder::L2dsr, 3);
    let vips = lab.options().vips.clone();
    let addresses = backend_addresses(&lab, vips[0]);
    let zoned = |name: &str, vip: IpAddr| {
        Service::new(Forwarder::L2dsr, &[vip])
            .text("name", name)
            .text("idle", LONG)
            .backend(addresses[0])
            .backend_with(addresses[1], ", zone = \"rack-2\"")
            .backend_with(addresses[2], ", zone = \"rack-3\"")
    };
    let both = format!("{}{}", zoned("web", vips[0]), zoned("shop", vips[1]));
    let rig = Rig::new(lab, &both);
    let generation = || rig.agent.services().unwrap().generation;
    let (web, shop) = (SocketAddr::new(vips[0], PORT), SocketAddr::new(vips[1], PORT));
    let states = |address| ["web", "shop"].map(|service| rig.backend(service, address).state);

    let before = generation();
    rig.lb(&["drain", &addresses[0].to_string()]);
    assert_eq!(states(addresses[0]), [BackendState::Drain; 2]);
    assert_eq!(generation(), before + 1, "one change");
    for target in [web, shop] {
        assert_eq!(requests(rig.client(), target, 40).get("backend-1"), None);
    }
    rig.lb(&["ready", &addresses[0].to_string()]);
    wait_until("the host is up", || states(addresses[0]) == [BackendState::Up; 2]);

    end_when_silent(&rig, "web");
    end_when_silent(&rig, "shop");
    let text = rig.lb(&["drain", "--zone", "rack-2", "--wait"]);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(states(addresses[1]), [BackendState::Maint; 2]);
    for target in [web, shop] {
        assert_eq!(requests(rig.client(), target, 40).get("backend-2"), None);
    }
    rig.lb(&["ready", "--zone", "rack-2"]);
    wait_until("the zone is up", || states(addresses[1]) == [BackendState::Up; 2]);

    rig.lb(&["drain", "--zone", "rack-3", "--service", "shop"]);
    assert_eq!(states(addresses[2])[0], BackendState::Up);
    assert_eq!(requests(rig.client(), shop, 40).get("backend-3"), None);
    let error = rig.lb_refuses(1, &["drain", "--zone", "rack-9"]);
    assert!(error.contains("no backend has the zone rack-9"), "{error}");
}

#[test]
fn a_failure_ends_a_drain_at_once() {
    let (mut rig, _, addresses) = rig(LONG);
    rig.lb(&["backend", "drain", "web", &addresses[0].to_string()]);
    rig.lb(&["backend", "remove", "web", &addresses[1].to_string()]);
    wait_until("they are silent, but not for long enough", || {
        addresses[..2]
            .iter()
            .all(|&address| drain_of(&rig, address).silent_seconds > 1.0)
    });
    rig.kill_server(0);
    rig.kill_server(1);
    rig.wait_for_state("web", addresses[0], BackendState::Maint);
    wait_until("the second is gone", || {
        addresses_of(&rig, "web") == [addresses[0], addresses[2]]
    });
    let log = rig.agent.log_end();
    assert!(
        log.contains(&format!("web: {} is drained: it is down", addresses[0])),
        "{log}"
    );
}

/// Opens connections to all three backends and asks over each; who answered.
fn held(rig: &Rig, target: SocketAddr) -> (HeldConnections, Vec<String>) {
    let mut held = HeldConnections::open(rig.client(), target, 60);
    let owners: Vec<String> = held.ask().into_iter().map(Result::unwrap).collect();
    for server in ["backend-1", "backend-2", "backend-3"] {
        assert!(owners.iter().any(|owner| owner == server), "{owners:?}");
    }
    (held, owners)
}

#[test]
fn established_connections_survive_drain_and_removal() {
    let (rig, target, addresses) = rig(IDLE);
    let (mut held, owners) = held(&rig, target);
    let idle = IDLE.parse::<Span>().unwrap().get().as_secs_f64();
    rig.lb(&["backend", "drain", "web", &addresses[1].to_string()]);
    rig.lb(&["backend", "remove", "web", &addresses[2].to_string()]);
    // For much longer than the backends may be silent, by the agent's clock.
    let left = || drain_of(&rig, addresses[1]).ends_in_seconds;
    let first = left();
    while left() > first - 2.0 * idle {
        let answers: Vec<String> = held.ask().into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, owners);
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(leaving(&rig, "web", addresses[1]), Some(false));
    assert_eq!(leaving(&rig, "web", addresses[2]), Some(true));
    assert_eq!(
        requests(rig.client(), target, 40)["backend-1"],
        40,
        "new flows go elsewhere"
    );
    let second = owners.iter().filter(|owner| *owner == "backend-2").count() as u64;
    wait_until("the flows of the second are counted", || {
        held.ask();
        let drain = rig.backend("web", addresses[1]).drain;
        drain.is_some_and(|drain| drain.flows == Some(second))
    });

    drop(held);
    rig.wait_for_state("web", addresses[1], BackendState::Maint);
    wait_until("the third is gone", || {
        addresses_of(&rig, "web") == addresses[..2]
    });
    assert_eq!(rig.drops(), []);
}

#[test]
fn a_deadline_cuts_the_connections_that_are_left() {
    let (rig, target, addresses) = rig(LONG);
    let (mut held, owners) = held(&rig, target);
    let second = addresses[1].to_string();
    let error = rig.lb_refuses(
        5,
        &["backend", "drain", "web", &second, "--deadline", "3s", "--wait"],
    );
    assert!(error.contains("the deadline ended the drain"), "{error}");
    assert_eq!(rig.backend("web", addresses[1]).state, BackendState::Maint);
    for (owner, answer) in owners.iter().zip(held.ask()) {
        if owner == "backend-2" {
            assert_ne!(answer.as_ref(), Ok(owner), "it is out");
        } else {
            assert_eq!(answer.as_ref(), Ok(owner), "the others keep theirs");
        }
    }
}
