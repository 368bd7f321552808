//! A drained backend keeps the connections that it has, gets no other, and is in maintenance when they are over.

use std::{
    thread,
    time::{Duration, Instant},
};

use lb_api::view::BackendState;
use lb_lab::{
    Forwarder,
    traffic::echo::{Connection, EchoOptions},
};

use super::{Plan, Stage, failures::account, wait_until};

const HELD: u32 = 400;
const SHORT: u32 = 100;
const SHORT_LIFE: u64 = 3;
/// Short enough to be waited for several times, long enough for many echoes on a busy machine.
const IDLE: Duration = Duration::from_secs(3);
const DRAINED: usize = 1;

#[test]
fn drained_backends_keep_their_connections() {
    let idle = format!("\"{}s\"", IDLE.as_secs());
    let stage = Stage::new(Plan {
        keys: vec![("window", idle.clone()), ("idle", idle)],
        ..Plan::new(Forwarder::Ipip, 4)
    });
    let (address, name) = (stage.addresses[DRAINED], &stage.rig.lab.backends[DRAINED].name);
    let held = stage.hold(HELD);
    let short = stage.echo(EchoOptions {
        life: Some(SHORT_LIFE),
        ..EchoOptions::new(stage.target, SHORT)
    });
    wait_until("new connections come and go", || short.connections().len() > 300);
    let on_drained = |connections: &[Connection]| {
        let theirs = connections
            .iter()
            .filter(|connection| connection.server.as_deref() == Some(name));
        theirs.count()
    };
    let theirs = on_drained(&held.connections());
    assert!(theirs > 50 && on_drained(&short.connections()) > 20);

    stage.rig.lb(&["backend", "drain", "web", &address.to_string()]);
    let flows = || stage.rig.backend("web", address).flows;
    let (drained, flows_at_drain) = (Instant::now(), flows());
    let (ended_at, held, short) = thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let said = stage.rig.lb(&[
                "backend",
                "drain",
                "web",
                &address.to_string(),
                "--wait",
                "--deadline",
                "60s",
            ]);
            (Instant::now(), said)
        });
        // Connections that were being opened have been accepted by now.
        thread::sleep(IDLE / 2);
        let accepted = || {
            stage.rig.servers[DRAINED]
                .as_ref()
                .unwrap()
                .stats()
                .unwrap()
                .echo_connections
        };
        let accepted_at_drain = accepted();
        let before = short.connections().len();
        // Much longer than the window and the idle time.
        thread::sleep(4 * IDLE);
        assert!(short.connections().len() > before + 300, "new connections go on");
        assert_eq!(stage.rig.backend("web", address).state, BackendState::Drain);
        assert!(!waiting.is_finished(), "it has flows: {:?}", waiting.join());
        assert_eq!(flows(), flows_at_drain, "new flows were sent to it");
        assert_eq!(accepted(), accepted_at_drain, "new connections reached it");

        let ends = Instant::now();
        let held = held.stop().unwrap();
        let (ended, said) = waiting.join().unwrap();
        assert!(said.contains("is drained"), "{said}");
        assert!(ended > ends, "it ended before its flows did");
        (ends, held, short.stop().unwrap())
    });
    assert_eq!(stage.rig.backend("web", address).state, BackendState::Maint);
    println!(
        "held: {}\nshort-lived: {}",
        account(&held, &[]),
        account(&short, &[])
    );
    assert_eq!(on_drained(&held), theirs);
    for connection in held
        .iter()
        .filter(|connection| connection.server.as_deref() == Some(name))
    {
        let heard = connection.heard.unwrap();
        assert!(
            heard > drained && ended_at.saturating_duration_since(heard) < IDLE,
            "{connection:?}"
        );
    }
}
