//! A hundred changes of all kinds, some a second, under thousands of connections.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use lb_api::view::BackendState;
use lb_lab::{
    Forwarder,
    traffic::echo::{self, EchoOptions},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{
    Plan, Stage,
    failures::{Failure, account},
};

const HELD: u32 = 2000;
/// Places of connections that live for some echoes only: about 200 new connections a second.
const SHORT: u32 = 200;
const SHORT_LIFE: u64 = 5;

const CHANGES: usize = 100;
const PACE: Duration = Duration::from_millis(200);
/// Several echoes fit, on a busy machine, too.
const WINDOW: Duration = Duration::from_secs(4);
/// After so many changes comes a pause in which the window ends.
const CHANGES_A_ROW: usize = 40;

const IN_SERVICE: usize = 8;
const SPARE: usize = 2;
/// So often it is counted how many flows are in the flow table.
const CHANGES_A_LOOK: usize = 10;
/// So many backends take new flows at any time.
const LEAST_SERVING: usize = 4;
/// So often the server of a backend is killed, at most.
const MOST_FAILURES: usize = 6;

/// Settings of the service, none of which is about a backend.
fn settings() -> [Value; 8] {
    [
        json!({ "scheduler": "rendezvous" }),
        json!({ "idle": "20m" }),
        json!({ "scheduler": "maglev" }),
        json!({ "slots": 4096 }),
        json!({ "scheduler": "consistent" }),
        json!({ "on_empty": "pass" }),
        json!({ "drain_deadline": "10m" }),
        json!({ "window": "5s" }),
    ]
}

/// Where a backend stands, as far as this test brought it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Drained,
    Failed,
    Absent,
}

/// The backends, and who changes them.
struct Fleet {
    stage: Stage,
    places: Vec<Place>,
    weights: Vec<u16>,
    failures: Vec<Failure>,
    random: StdRng,
    done: BTreeMap<&'static str, usize>,
}

impl Fleet {
    fn new(stage: Stage) -> Self {
        let mut places = vec![Place::Ready; IN_SERVICE];
        places.resize(IN_SERVICE + SPARE, Place::Absent);
        Self {
            stage,
            weights: vec![1; places.len()],
            places,
            failures: Vec::new(),
            // The same changes in every run.
            random: StdRng::seed_from_u64(4),
            done: BTreeMap::new(),
        }
    }

    /// Makes one change; `step` counts them.
    fn change(&mut self, step: usize) {
        let settings = settings();
        let kind = match step % 10 {
            3 => {
                let patch = &settings[step / 10 % settings.len()];
                self.stage.rig.write("PATCH", "/v1/services/web", Some(patch));
                "setting"
            }
            6 => self.reload(),
            9 => self.add_service(),
            _ => self.change_a_backend(),
        };
        *self.done.entry(kind).or_default() += 1;
    }

    fn change_a_backend(&mut self) -> &'static str {
        let backend = self.random.random_range(0..self.places.len());
        let expendable = self.serving() > LEAST_SERVING || self.weights[backend] == 0;
        match (self.places[backend], self.random.random_range(0..8)) {
            (Place::Absent, _) => self.add(backend),
            (Place::Drained, 0) => self.remove(backend),
            (Place::Drained, _) => self.ready(backend),
            (Place::Failed, _) => self.recover(backend),
            (Place::Ready, 4 | 5) if expendable => self.drain(backend),
            (Place::Ready, 6) if expendable => self.remove(backend),
            (Place::Ready, 7) if expendable && self.failures.len() < MOST_FAILURES => self.fail(backend),
            (Place::Ready, 3) if expendable => self.weigh(backend, 0),
            (Place::Ready, _) => {
                let weight = *[1, 2, 3, 5, 8].choose(&mut self.random).unwrap();
                self.weigh(backend, weight)
            }
        }
    }

    fn serving(&self) -> usize {
        let both = self.places.iter().zip(&self.weights);
        both.filter(|&(&place, &weight)| place == Place::Ready && weight > 0)
            .count()
    }

    fn path(&self, backend: usize) -> String {
        let id = match self.stage.addresses[backend] {
            address if address.is_ipv4() => address.to_string(),
            address => address.to_string().replace(':', "%3A"),
        };
        format!("/v1/services/web/backends/{id}")
    }

    fn patch(&self, backend: usize, patch: &Value) {
        self.stage.rig.write("PATCH", &self.path(backend), Some(patch));
    }

    fn weigh(&mut self, backend: usize, weight: u16) -> &'static str {
        self.weights[backend] = weight;
        self.patch(backend, &json!({ "weight": weight }));
        "weight"
    }

    fn drain(&mut self, backend: usize) -> &'static str {
        self.places[backend] = Place::Drained;
        self.patch(backend, &json!({ "state": "drain" }));
        "drain"
    }

    fn ready(&mut self, backend: usize) -> &'static str {
        self.places[backend] = Place::Ready;
        self.patch(backend, &json!({ "state": "ready" }));
        "ready"
    }

    fn remove(&mut self, backend: usize) -> &'static str {
        self.places[backend] = Place::Absent;
        self.stage.rig.write("DELETE", &self.path(backend), None);
        "remove"
    }

    fn add(&mut self, backend: usize) -> &'static str {
        self.places[backend] = Place::Ready;
        self.weights[backend] = self.random.random_range(1..4);
        let body = json!({ "address": self.stage.addresses[backend], "weight": self.weights[backend] });
        self.stage
            .rig
            .write("POST", "/v1/services/web/backends", Some(&body));
        "add"
    }

    fn fail(&mut self, backend: usize) -> &'static str {
        self.places[backend] = Place::Failed;
        let killed = Instant::now();
        self.stage.rig.kill_server(backend);
        let address = self.stage.addresses[backend];
        self.stage.rig.wait_for_state("web", address, BackendState::Down);
        self.failures.push(Failure {
            server: self.stage.rig.lab.backends[backend].name.clone(),
            killed,
            detected: Instant::now(),
        });
        "fail"
    }

    fn recover(&mut self, backend: usize) -> &'static str {
        self.places[backend] = Place::Ready;
        self.stage.rig.revive_server(backend);
        "recover"
    }

    /// Reads a file in which everything in this service is as it is, but for one weight.
    fn reload(&mut self) -> &'static str {
        let backend = self.random.random_range(0..self.places.len());
        self.weights[backend] = self.weights[backend] % 7 + 1;
        let mut service = self.stage.service.clone();
        for (index, &address) in self.stage.addresses.iter().enumerate() {
            let weight = self.weights[index];
            service = match self.places[index] {
                Place::Absent => service,
                Place::Drained => {
                    service.backend_with(address, &format!(", weight = {weight}, state = \"drain\""))
                }
                Place::Ready | Place::Failed => {
                    service.backend_with(address, &format!(", weight = {weight}"))
                }
            };
        }
        self.stage.rig.write_config(&service);
        self.stage.rig.write("POST", "/v1/reload", None);
        "reload"
    }

    /// Another service of the same backends comes; the next reload removes it.
    fn add_service(&self) -> &'static str {
        let Stage {
            rig,
            target,
            addresses,
            ..
        } = &self.stage;
        let backends: Vec<Value> = addresses
            .iter()
            .map(|address| json!({ "address": address }))
            .collect();
        let service = json!({
            "name": "other", "vips": [target.ip()], "protocol": "tcp", "port": echo::PORT + 1,
            "forwarder": rig.agent.services().unwrap().services[0].forwarder,
            "check": { "type": "none" }, "backend": backends,
        });
        rig.write("POST", "/v1/services", Some(&service));
        "add service"
    }
}

fn connections_survive_changes(forwarder: Forwarder, v6: bool) {
    let stage = Stage::new(Plan {
        v6,
        spare: SPARE,
        keys: vec![("window", format!("\"{}s\"", WINDOW.as_secs()))],
        ..Plan::new(forwarder, IN_SERVICE)
    });
    let held = stage.hold(HELD);
    let short = stage.echo(EchoOptions {
        life: Some(SHORT_LIFE),
        ..EchoOptions::new(stage.target, SHORT)
    });
    let flows = stage.flow_table();
    let mut most = 0;
    let mut fleet = Fleet::new(stage);
    for step in 0..CHANGES {
        fleet.change(step);
        if step % CHANGES_A_LOOK == 0 {
            most = most.max(flows.in_use());
        }
        let pause = if step % CHANGES_A_ROW == CHANGES_A_ROW - 1 {
            2 * WINDOW
        } else {
            PACE
        };
        thread::sleep(pause);
    }
    thread::sleep(WINDOW / 2);

    let (held, short) = (held.stop().unwrap(), short.stop().unwrap());
    let held = account(&held, &fleet.failures);
    let short = account(&short, &fleet.failures);
    println!("{:?}\nheld: {held}\nshort-lived: {short}", fleet.done);
    println!(
        "flow table: {most} entries at the most, {} at the end, for {} connections at a time; {:?}",
        flows.in_use(),
        HELD + SHORT,
        flows.counters()
    );
    assert_eq!(
        fleet.stage.rig.drops(),
        [],
        "each packet found a backend at any time"
    );
    assert!(held.failed > 10 && short.connections > 1000);
    for kind in [
        "add", "remove", "drain", "ready", "weight", "fail", "recover", "setting", "reload",
    ] {
        assert!(
            fleet.done.get(kind) > Some(&2),
            "too few of {kind}: {:?}",
            fleet.done
        );
    }
}

#[test]
fn connections_survive_changes_with_l2dsr() {
    connections_survive_changes(Forwarder::L2dsr, false);
}

#[test]
fn connections_survive_changes_with_ipip() {
    connections_survive_changes(Forwarder::Ipip, false);
}

#[test]
fn connections_survive_changes_with_ipip_over_ipv6() {
    connections_survive_changes(Forwarder::Ipip, true);
}
