//! One failed check is no verdict on a backend that serves, whatever made the agent begin anew to ask it.
//!
//! Checks have servers of their own, so that one can be away while the backend serves. An hour lies between two checks,
//! so that the one that fails is the only one.

use std::net::{IpAddr, SocketAddr};

use lb_api::view::BackendState;
use lb_lab::{
    Forwarder, Lab,
    traffic::{
        echo::{self, Echoes},
        server::Server,
    },
};

use super::{Stage, Turn, failures::account, wait_until};
use crate::support::{LIMIT, PORT, Rig, Service, backend_addresses, lab};

const CHECKED: u16 = 8081;
const BACKENDS: usize = 3;
const HELD: u32 = 60;
/// Two services of the largest size do not fit.
const LITTLE_ROOM: &str = "[dataplane]\nmax_slots = 65536\n";

fn check(more: &str) -> String {
    format!(r#"{{ port = {CHECKED}, interval = "1h", fast_interval = "1h", timeout = "5s"{more} }}"#)
}

/// A stage whose checks are answered by servers of their own.
struct Checked {
    stage: Stage,
    answers: Vec<Option<Server>>,
}

impl Checked {
    fn new(forwarder: Forwarder, dataplane: &str) -> Self {
        let turn = Turn::shared();
        let lab = lab(forwarder, BACKENDS);
        let vip = lab.options().vips[0];
        let addresses = backend_addresses(&lab, vip);
        let answers = addresses
            .iter()
            .map(|&address| Some(answer(&lab, address)))
            .collect();
        let service = Service::new(forwarder, &[vip])
            .key("port", echo::PORT)
            .key("check", check(r#", type = "tcp""#));
        let config = format!("{dataplane}\n{}", service.clone().backends(&addresses));
        let rig = Rig::on_ports(lab, &config, &[PORT, echo::PORT]);
        rig.wait_until_all_up();
        let stage = Stage {
            rig,
            target: SocketAddr::new(vip, echo::PORT),
            addresses,
            service,
            _turn: turn,
        };
        Self { stage, answers }
    }

    /// From here on the first backend fails its checks, and serves all the same.
    fn fail(&mut self) {
        self.answers[0] = None;
    }

    /// The last failure of the first backend's checks.
    fn failure(&self) -> Option<String> {
        self.stage.rig.backend("web", self.stage.addresses[0]).reason
    }

    /// Waits until the first backend has failed a check; it is up, and no connection broke.
    fn outlives_a_failure(&self, held: &Echoes) {
        wait_until("the check has failed", || {
            self.failure().is_some_and(|reason| reason.contains("refused"))
        });
        let before = held.connections();
        wait_until("every connection echoes again, or is broken", || {
            let mut pairs = before.iter().zip(held.connections());
            pairs.all(|(before, now)| now.end.is_some() || now.echoes > before.echoes + 2)
        });
        println!("{}", account(&held.connections(), &[]));
        let state = self.stage.rig.backend("web", self.stage.addresses[0]).state;
        assert_eq!(state, BackendState::Up);
    }
}

/// Something that listens at the checked port of a backend.
fn answer(lab: &Lab, address: IpAddr) -> Server {
    let host = lab
        .backends
        .iter()
        .find(|host| host.address_like(address) == address);
    let listen = [SocketAddr::new(address, CHECKED)];
    Server::start(&host.unwrap().namespace, "check", &listen).unwrap()
}

fn one_failure_after(change: impl FnOnce(&mut Stage)) {
    let mut checked = Checked::new(Forwarder::L2dsr, "");
    let held = checked.stage.hold(HELD);
    assert_eq!(checked.failure(), None);
    checked.fail();
    change(&mut checked.stage);
    checked.outlives_a_failure(&held);
}

#[test]
fn one_failed_check_after_a_stop_and_a_start_cuts_nothing() {
    one_failure_after(|stage| {
        stage.rig.lb(&["stop"]);
        assert!(stage.rig.agent.process().wait(LIMIT).unwrap().success());
        stage.rig.agent.start_again().unwrap();
    });
}

#[test]
fn one_failed_check_after_a_crash_cuts_nothing() {
    one_failure_after(|stage| {
        stage.rig.agent.kill().unwrap();
        stage.rig.agent.start_again().unwrap();
    });
}

#[test]
fn one_failed_check_after_the_kernel_forgot_everything_cuts_nothing() {
    one_failure_after(|stage| {
        stage.rig.lb(&["stop", "--detach"]);
        assert!(stage.rig.agent.process().wait(LIMIT).unwrap().success());
        stage.rig.agent.start_again().unwrap();
    });
}

#[test]
fn one_failed_check_after_a_crash_with_another_check_in_the_file_cuts_nothing() {
    one_failure_after(|stage| {
        stage.rig.agent.kill().unwrap();
        let service = stage.service.clone().key("check", check(r#", type = "http""#));
        stage.rig.write_config(&service.backends(&stage.addresses));
        stage.rig.agent.start_again().unwrap();
    });
}

#[test]
fn one_failed_check_after_another_timing_cuts_nothing() {
    one_failure_after(|stage| {
        let port = CHECKED.to_string();
        let timing = [
            "--check-interval",
            "59m",
            "--check-fast-interval",
            "59m",
            "--check-fall",
            "2",
        ];
        let set = ["service", "set", "web", "--check", "tcp", "--check-port", &port];
        stage.rig.lb(&[&set[..], &timing[..]].concat());
    });
}

#[test]
fn one_failed_check_of_another_kind_cuts_nothing() {
    one_failure_after(|stage| {
        let port = CHECKED.to_string();
        let set = ["service", "set", "web", "--check", "http", "--check-port", &port];
        stage.rig.lb(&[
            &set[..],
            &["--check-interval", "1h", "--check-fast-interval", "1h"],
        ]
        .concat());
    });
}

#[test]
fn one_failed_check_after_a_reload_of_any_key_cuts_nothing() {
    for key in [
        r#", type = "http", path = "/health""#,
        r#", type = "tcp", rise = 1"#,
        r#", type = "tcp", fall = 9"#,
    ] {
        one_failure_after(|stage| {
            let service = stage.service.clone().key("check", check(key));
            stage.rig.write_config(&service.backends(&stage.addresses));
            stage.rig.lb(&["reload"]);
        });
    }
}

/// Failures before a restart and after it make a verdict together where the restart changed timing alone, and a backend
/// that is down stays down.
#[test]
fn a_verdict_outlives_restarts_and_other_timings() {
    let mut checked = Checked::new(Forwarder::L2dsr, "");
    let address = checked.stage.addresses[0];
    checked.fail();
    let set = |fall: &'static str| {
        [
            "service",
            "set",
            "web",
            "--check",
            "tcp",
            "--check-port",
            "8081",
            "--check-interval",
            "1h",
            "--check-fast-interval",
            "1h",
            "--check-fall",
            fall,
        ]
    };
    // Each change asks once: the first failure, and the second, which is one too many.
    checked.stage.rig.lb(&set("3"));
    wait_until("the check has failed", || checked.failure().is_some());
    checked.stage.rig.lb(&set("2"));
    checked
        .stage
        .rig
        .wait_for_state("web", address, BackendState::Down);

    let rig = &mut checked.stage.rig;
    rig.lb(&["checkpoint", "save"]);
    rig.agent.kill().unwrap();
    let answering = answer(&rig.lab, address);
    rig.agent.start_again().unwrap();
    // One success of two. Whoever counts connections makes one.
    let mut counted = 0;
    wait_until("the check is answered", || {
        counted += 1;
        answering.stats().unwrap().connections > counted
    });
    rig.wait_for_state("web", address, BackendState::Down);
    checked.answers[0] = Some(answering);
    checked.stage.rig.lb(&set("4"));
    checked.stage.rig.wait_for_state("web", address, BackendState::Up);
}

/// A change that is refused leaves no trace in what is known of backends.
#[test]
fn a_refused_change_does_not_make_a_dead_backend_serve_later() {
    let mut checked = Checked::new(Forwarder::L2dsr, LITTLE_ROOM);
    let (service, addresses) = (checked.stage.service.clone(), checked.stage.addresses.clone());
    let address = addresses[0];
    let file = |service: Service| format!("{LITTLE_ROOM}{}", service.backends(&addresses));
    let other = service.clone().key("check", check(r#", type = "http""#));
    let wide = |service: Service, name: &str, port: u16| {
        service
            .text("name", name)
            .key("port", port)
            .key("slots", 65536)
            .backends(&addresses)
    };
    let two_of_them = format!(
        "{LITTLE_ROOM}{}{}",
        wide(other.clone(), "web", echo::PORT),
        wide(other.clone(), "more", 90)
    );
    checked.stage.rig.write_config(&two_of_them);
    let why = checked.stage.rig.lb_refuses(1, &["reload"]);
    assert!(why.contains("max_slots"), "{why}");

    // It is down by a verdict, and then asked another question, whose answer is awaited.
    checked.fail();
    let quick = r#"{ type = "tcp", port = 8081, interval = "100ms", timeout = "5s", fall = 1 }"#;
    checked.stage.rig.write_config(&file(service.key("check", quick)));
    checked.stage.rig.lb(&["reload"]);
    checked
        .stage
        .rig
        .wait_for_state("web", address, BackendState::Down);
    // By the new check nothing is known of it, and the refused change has not made it one that serves.
    let silent = other.key("check", check(r#", type = "http", path = "/other""#));
    checked.stage.rig.write_config(&file(silent));
    checked.stage.rig.lb(&["reload"]);
    assert_ne!(checked.stage.rig.backend("web", address).state, BackendState::Up);
    checked
        .stage
        .rig
        .wait_for_state("web", address, BackendState::Down);
}
