//! Many writers and many changes: none is lost, and real traffic does not notice.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    thread,
};

use lb_api::view::{BackendState, BackendView};
use lb_lab::{
    Forwarder, Lab, NextHop, Route,
    traffic::load::{Load, LoadOptions},
};
use serde_json::{Value, json};

use super::support::{
    NO_CHECK, PORT, Rig, Service, backend_addresses, lab, patient_load, rig::lb, shares, wait_until,
};

/// Addresses that lead to the first backend of the lab, so that their next hop is known.
fn routed(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 200, high, low).into()
}

fn add_route(lab: &Lab) {
    let route = Route {
        destination: routed(0),
        prefix: 16,
        next: NextHop::Via(lab.backends[0].ipv4),
        mtu: None,
    };
    let balancer = &lab.balancer.namespace;
    balancer
        .netlink(async |netlink| netlink.add_route(&route).await)
        .unwrap();
}

#[test]
fn concurrent_writers_lose_nothing() {
    const WRITERS: u16 = 20;
    const EACH: u16 = 10;
    let lab = lab(Forwarder::Ipip, 1);
    add_route(&lab);
    let service = Service::new(Forwarder::Ipip, &lab.options().vips[..1]).key("check", NO_CHECK);
    let rig = Rig::on_ports(lab, &service, &[]);
    let before = rig.agent.services().unwrap().generation;
    let (binary, socket) = (lb(), rig.agent.socket());

    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (binary, socket) = (binary.clone(), socket.clone());
            thread::spawn(move || add_backends(&binary, &socket, writer * EACH..(writer + 1) * EACH))
        })
        .collect();
    let generations: Vec<u64> = writers
        .into_iter()
        .flat_map(|writer| writer.join().unwrap())
        .collect();

    let all = u64::from(WRITERS * EACH);
    let distinct: BTreeSet<u64> = generations.iter().copied().collect();
    assert_eq!(
        distinct,
        (before + 1..=before + all).collect(),
        "each write has made one generation"
    );
    let view = rig.agent.services().unwrap();
    assert_eq!(view.generation, before + all);
    let present: BTreeSet<IpAddr> = view.services[0]
        .backends
        .iter()
        .map(|backend| backend.address)
        .collect();
    assert_eq!(present, (0..WRITERS * EACH).map(routed).collect());
    wait_until("the tables hold them all", || {
        let view = rig.agent.services().unwrap();
        view.services[0]
            .backends
            .iter()
            .all(|backend| backend.state == BackendState::Up && backend.share > 0.0)
    });
}

/// Adds backends one by one with the command line client; the generations that it printed.
fn add_backends(binary: &PathBuf, socket: &PathBuf, numbers: std::ops::Range<u16>) -> Vec<u64> {
    let add = |number| {
        let mut command = Command::new(binary);
        command.args([
            "backend",
            "add",
            "web",
            &routed(number).to_string(),
            "--json",
            "--socket",
        ]);
        let output = command.arg(socket).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let applied: Value = serde_json::from_slice(&output.stdout).unwrap();
        applied["generation"].as_u64().unwrap()
    };
    numbers.map(add).collect()
}

#[test]
fn outdated_writers_are_told() {
    let lab = lab(Forwarder::L2dsr, 2);
    let addresses = backend_addresses(&lab, lab.options().vips[0]);
    let service = Service::new(Forwarder::L2dsr, &lab.options().vips[..1])
        .key("check", NO_CHECK)
        .backend(addresses[0]);
    let rig = Rig::on_ports(lab, &service, &[]);
    let generation = rig.agent.services().unwrap().generation.to_string();
    let second = addresses[1].to_string();
    let add = ["backend", "add", "web", &second, "--if-generation", &generation];
    rig.lb(&add);
    let set = [
        "backend",
        "set",
        "web",
        &second,
        "--weight",
        "7",
        "--if-generation",
        &generation,
    ];
    let error = rig.lb_refuses(4, &set);
    assert!(
        error.contains(&generation) && error.contains("somebody else"),
        "{error}"
    );
    assert_eq!(
        rig.backend("web", addresses[1]).weight,
        1,
        "a refused write changes nothing"
    );
}

/// A thousand backends come, change and go: half of them in a service of their own, where all are up and every step
/// makes new tables; half in the service that carries the traffic, without weight or in maint.
///
/// That one's table has a fixed size: otherwise backends in maint, which count though they own no slot, would make it
/// grow and shrink, and connections under way at that moment would change their backends.
#[test]
fn a_thousand_backends_come_and_go_unnoticed() {
    const BACKENDS: u16 = 1000;
    let lab = lab(Forwarder::Ipip, 3);
    add_route(&lab);
    let vip = lab.options().vips[0];
    let stable = backend_addresses(&lab, vip);
    let web = Service::new(Forwarder::Ipip, &[vip])
        .key("slots", 1024)
        .backends(&stable);
    let bulk = Service::new(Forwarder::Ipip, &[vip])
        .text("name", "bulk")
        .key("port", 81)
        .key("slots", 8192)
        .key("check", NO_CHECK);
    let rig = Rig::on_ports(lab, &format!("{web}{bulk}"), &[PORT]);
    rig.wait_until_all_up();
    let before = rig.agent.services().unwrap();
    let targets_before = rig.agent.status().unwrap().targets_used;

    let target = SocketAddr::new(vip, PORT);
    let load = {
        // The agent has enough to do.
        let options = LoadOptions {
            rate: 100,
            ..patient_load(target)
        };
        Load::start(&rig.client().namespace, options).unwrap()
    };
    let service = |number: u16| if number < BACKENDS / 2 { "bulk" } else { "web" };
    for number in 0..BACKENDS {
        let mut body = json!({ "address": routed(number) });
        match (service(number), number % 2) {
            ("web", 0) => body["weight"] = json!(0),
            ("web", _) => body["state"] = json!("maint"),
            _ => {}
        }
        let path = format!("/v1/services/{}/backends", service(number));
        rig.write("POST", &path, Some(&body));
    }
    expect_thousand(&rig, &stable, |backend| backend.weight <= 1);
    for number in 0..BACKENDS {
        let path = format!("/v1/services/{}/backends/{}", service(number), routed(number));
        let change = match service(number) {
            "web" => json!({ "weight": 0, "state": "drain" }),
            _ => json!({ "weight": 2 + number % 3 }),
        };
        rig.write("PATCH", &path, Some(&change));
    }
    expect_thousand(&rig, &stable, |backend| {
        backend.weight == 0 || backend.weight >= 2
    });
    for number in 0..BACKENDS {
        let backend = routed(number);
        let path = format!("/v1/services/{}/backends/{backend}?now=true", service(number));
        rig.write("DELETE", &path, None);
    }
    let records = load.stop().unwrap();
    assert_eq!(rig.drops(), [], "each packet found a backend at any time");
    assert_eq!(
        shares(&records).len(),
        3,
        "every request was answered by a stable backend"
    );

    let after = rig.agent.services().unwrap();
    // Each write has made one generation; so has each second in which drains of backends that nobody answers for ended.
    assert!(after.generation >= before.generation + 3 * u64::from(BACKENDS));
    for (before, after) in before.services.iter().zip(&after.services) {
        let shown = |backend: &BackendView| {
            (
                backend.address,
                backend.weight,
                backend.state,
                backend.share.to_bits(),
            )
        };
        let (before, after): (Vec<_>, Vec<_>) = (
            before.backends.iter().map(shown).collect(),
            after.backends.iter().map(shown).collect(),
        );
        assert_eq!(before, after);
    }
    assert_eq!(rig.agent.status().unwrap().targets_used, targets_before);
}

/// All that was added is listed, and shares are as the weights want them.
fn expect_thousand(rig: &Rig, stable: &[IpAddr], weight: impl Fn(&BackendView) -> bool) {
    wait_until("the next hops of all are known", || {
        let view = rig.agent.services().unwrap();
        let bulk = view
            .services
            .iter()
            .find(|service| service.name == "bulk")
            .unwrap();
        bulk.backends
            .iter()
            .all(|backend| backend.state == BackendState::Up)
    });
    let view = rig.agent.services().unwrap();
    assert_eq!(
        view.services
            .iter()
            .map(|service| service.backends.len())
            .sum::<usize>(),
        1003
    );
    for service in &view.services {
        let weights: f64 = service
            .backends
            .iter()
            .map(|backend| f64::from(backend.weight))
            .sum();
        for backend in &service.backends {
            let idle = service.name == "web" && !stable.contains(&backend.address);
            let expected = match service.name.as_str() {
                "web" if idle => 0.0,
                "web" => 1.0 / 3.0,
                _ => f64::from(backend.weight) / weights,
            };
            // Within one slot.
            let error = (backend.share - expected).abs();
            assert!(
                error <= 1.0 / f64::from(service.slots),
                "{}: {backend:?}, not {expected}",
                service.name
            );
            assert!(
                stable.contains(&backend.address) || weight(backend),
                "{}: {backend:?}",
                service.name
            );
        }
    }
}
