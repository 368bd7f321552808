//! The agent is killed at any instant, and what it had acknowledged is there when the next one answers.

use std::{collections::BTreeMap, thread, time::Duration};

use hyper::StatusCode;
use lb_api::view::{BackendState, ServiceView};
use lb_lab::{
    Forwarder,
    traffic::echo::{Connection, EchoOptions},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{Plan, Stage, failures::account, wait_until};
use crate::support::rig::write_request;

const KILLS: usize = 100;
const HELD: u32 = 1000;
/// Places of connections that live for some echoes only.
const SHORT: u32 = 50;
const SHORT_LIFE: u64 = 5;
const BACKENDS: usize = 6;
/// So many backends take new flows at any time.
const LEAST_SERVING: usize = 2;
/// The kill comes within this time after the first change is sent: a change takes some milliseconds.
const LONGEST_LIFE: Duration = Duration::from_millis(25);
/// Of so many connections the agent is asked after each start.
const EXPLAINED: usize = 5;

/// What the operator wants of the service, by backend.
type Desired = BTreeMap<usize, Wanted>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    weight: u16,
    drains: bool,
}

/// A change of the desired state, and the request that asks for it.
struct Change {
    desired: Desired,
    method: &'static str,
    path: String,
    body: Option<Value>,
}

fn serving(desired: &Desired) -> usize {
    desired.values().filter(|wanted| !wanted.drains).count()
}

/// One change of `desired`.
fn change(stage: &Stage, desired: &Desired, random: &mut StdRng) -> Change {
    let backend = random.random_range(0..BACKENDS);
    let address = stage.addresses[backend];
    let path = format!("/v1/services/web/backends/{address}");
    let mut next = desired.clone();
    let weight = *[1, 2, 3, 5].choose(random).unwrap();
    let expendable = serving(desired) > LEAST_SERVING;
    let (method, path, body) = match (desired.get(&backend), random.random_range(0..4)) {
        (None, _) => {
            next.insert(
                backend,
                Wanted {
                    weight,
                    drains: false,
                },
            );
            let body = json!({ "address": address, "weight": weight });
            ("POST", "/v1/services/web/backends".into(), Some(body))
        }
        (Some(wanted), 0) if expendable || wanted.drains => {
            next.remove(&backend);
            ("DELETE", path, None)
        }
        (Some(&wanted), 1 | 2) if expendable || wanted.drains => {
            let drains = !wanted.drains;
            next.insert(backend, Wanted { drains, ..wanted });
            let state = if drains { "drain" } else { "ready" };
            ("PATCH", path, Some(json!({ "state": state })))
        }
        (Some(&wanted), _) => {
            next.insert(backend, Wanted { weight, ..wanted });
            ("PATCH", path, Some(json!({ "weight": weight })))
        }
    };
    Change {
        desired: next,
        method,
        path,
        body,
    }
}

/// The desired state that a view shows: backends that are leaving are not wanted any more.
fn shown(stage: &Stage, view: &ServiceView) -> Desired {
    let wanted = view.backends.iter().filter_map(|backend| {
        let index = stage
            .addresses
            .iter()
            .position(|&address| address == backend.address);
        let leaving = backend.drain.as_ref().is_some_and(|drain| drain.leaving);
        let wanted = Wanted {
            weight: backend.weight,
            drains: backend.state == BackendState::Drain,
        };
        (!leaving).then_some((index.unwrap(), wanted))
    });
    wanted.collect()
}

/// What was acknowledged until the agent died, with its generation, and what it was asked for last.
struct Survived {
    acknowledged: Desired,
    generation: u64,
    in_flight: Desired,
    changes: usize,
}

/// Makes changes until the agent is dead.
fn change_until_killed(
    stage: &mut Stage,
    desired: &Desired,
    generation: u64,
    random: &mut StdRng,
) -> Survived {
    let pid = Pid::from_raw(stage.rig.agent.process().id().cast_signed());
    let life = random.random_range(Duration::ZERO..LONGEST_LIFE);
    let mut survived = Survived {
        acknowledged: desired.clone(),
        generation,
        in_flight: desired.clone(),
        changes: 0,
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(life);
            kill(pid, Signal::SIGKILL).unwrap();
        });
        loop {
            let change = change(stage, &survived.acknowledged, random);
            let request = write_request(change.method, &change.path, change.body.as_ref());
            survived.in_flight.clone_from(&change.desired);
            let Ok(answer) = stage.rig.agent.send(request) else {
                return;
            };
            let text = String::from_utf8_lossy(answer.body());
            assert!(
                matches!(answer.status(), StatusCode::OK | StatusCode::CREATED),
                "{} {}: {text}",
                change.method,
                change.path
            );
            let applied: Value = serde_json::from_str(&text).unwrap();
            survived.generation = applied["generation"].as_u64().unwrap();
            survived.acknowledged = change.desired;
            survived.changes += 1;
        }
    });
    stage.rig.agent.kill().unwrap();
    survived
}

/// Every backend has its share of the slots, within what a table of slots can show.
fn shares_fit(view: &ServiceView) -> bool {
    let takes = |backend: &&lb_api::view::BackendView| backend.state != BackendState::Drain;
    let weights: u32 = view
        .backends
        .iter()
        .filter(takes)
        .map(|backend| u32::from(backend.weight))
        .sum();
    view.backends.iter().all(|backend| {
        let part = if takes(&backend) {
            f64::from(backend.weight) / f64::from(weights)
        } else {
            0.0
        };
        (backend.share - part).abs() <= 1.0 / f64::from(view.slots)
    })
}

/// The dataplane sends these connections where they have been all the time.
fn expect_kept(stage: &Stage, connections: &[Connection], random: &mut StdRng) {
    for connection in connections.choose_multiple(random, EXPLAINED) {
        let explained = stage.rig.explain_tcp(connection.port.unwrap(), stage.target);
        let server = connection.server.as_deref().unwrap();
        let backend = stage
            .rig
            .lab
            .backends
            .iter()
            .find(|host| host.name == server)
            .unwrap();
        let address = backend.address_like(stage.target.ip()).to_string();
        assert_eq!(explained.backend, Some(address), "{explained:?}");
    }
}

#[test]
fn the_agent_may_die_at_any_time() {
    let mut stage = Stage::new(Plan::new(Forwarder::L2dsr, BACKENDS));
    let held = stage.hold(HELD);
    let short = stage.echo(EchoOptions {
        life: Some(SHORT_LIFE),
        ..EchoOptions::new(stage.target, SHORT)
    });
    let mut random = StdRng::seed_from_u64(9);
    let mut view = stage.rig.agent.services().unwrap();
    let mut desired = shown(&stage, &view.services[0]);
    let (mut acknowledged, mut in_flight_made, mut in_flight_lost) = (0, 0, 0);
    for round in 0..KILLS {
        let survived = change_until_killed(&mut stage, &desired, view.generation, &mut random);
        acknowledged += survived.changes;
        stage.rig.agent.start_again().unwrap();
        view = stage.rig.agent.services().unwrap();
        desired = shown(&stage, &view.services[0]);
        if desired == survived.acknowledged {
            in_flight_lost += 1;
        } else {
            in_flight_made += 1;
            assert_eq!(
                desired, survived.in_flight,
                "after kill {round} neither what was acknowledged, {:?}, nor what was in flight",
                survived.acknowledged
            );
        }
        assert!(
            (survived.generation..=survived.generation + 2).contains(&view.generation),
            "after kill {round} generation {}, {} was acknowledged",
            view.generation,
            survived.generation
        );
        expect_kept(&stage, &held.connections(), &mut random);
        wait_until("the slots are what the weights want", || {
            shares_fit(&stage.rig.agent.services().unwrap().services[0])
        });
        let broken = held
            .connections()
            .into_iter()
            .find(|connection| connection.broken().is_some());
        assert!(broken.is_none(), "after kill {round}: {broken:?}");
    }
    let held = account(&held.stop().unwrap(), &[]);
    let short = account(&short.stop().unwrap(), &[]);
    println!(
        "{acknowledged} changes acknowledged; of those in flight {in_flight_made} were made, {in_flight_lost} not\n\
         held: {held}\nshort-lived: {short}"
    );
    assert!(short.connections > 500);
}
