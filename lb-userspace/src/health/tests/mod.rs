//! The engine against real sockets on loopback.
//!
//! Invariant: nothing here asserts how fast something is, only that it happens. The clock is not paused: it would go on
//! to a check's timeout whenever the answer is still in the kernel.

mod load;
mod turns;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Belief, Beliefs, Engine, Health, Status, Verdict};
use crate::supervise::Vitals;
use lb_check::{Check, HttpCheck, Kind, NoCheck, PingCheck, ProbeTarget, TcpCheck, Timing};

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// With a timeout that no check meets, however busy the machine is.
fn timing(interval: u64, fast: u64) -> Timing {
    Timing {
        interval: ms(interval),
        fast_interval: Some(ms(fast)),
        timeout: Check::MAX_DURATION,
        ..Timing::default()
    }
}

fn tcp(address: SocketAddr, timing: Timing) -> ProbeTarget {
    let check = Check {
        timing,
        ..Check::default()
    };
    check.validate().expect("a valid check");
    ProbeTarget::new(address, &check).expect("a target")
}

/// A listener that accepts and drops, until aborted.
async fn backend(address: &str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.expect("bind");
    let address = listener.local_addr().expect("address");
    let task = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    (address, task)
}

/// Ends a backend and waits until its port is closed.
async fn stop(backend: JoinHandle<()>) {
    backend.abort();
    let _ = backend.await;
}

async fn next(verdicts: &mut mpsc::Receiver<Verdict>) -> Verdict {
    timeout(PATIENCE, verdicts.recv())
        .await
        .expect("a verdict in time")
        .expect("an engine")
}

async fn wait_for(engine: &Engine, target: &ProbeTarget, wanted: impl Fn(&Status) -> bool) -> Status {
    let status = async {
        loop {
            match engine.status(target) {
                Some(status) if wanted(&status) => return status,
                _ => sleep(ms(5)).await,
            }
        }
    };
    timeout(PATIENCE, status)
        .await
        .expect("the wanted status in time")
}

#[tokio::test]
async fn a_backend_falls_and_rises_and_its_last_failure_is_remembered() {
    let (engine, mut verdicts) = Engine::spawn();
    let (address, serving) = backend("127.0.0.1:0").await;
    let target = tcp(address, timing(50, 20));
    engine.set_targets(HashSet::from([target.clone()]), &Beliefs::new());

    let up = next(&mut verdicts).await;
    assert_eq!((&up.target, up.state, &up.reason), (&target, Health::Up, &None));

    stop(serving).await;
    let down = next(&mut verdicts).await;
    assert_eq!((&down.target, down.state), (&target, Health::Down));
    assert_eq!(down.reason.as_deref(), Some("connect: connection refused"));
    let failed = engine.snapshot()[&target].clone();
    assert_eq!((failed.state, failed.since), (Health::Down, down.at));
    assert!(failed.checks >= 4, "one success and three failures: {failed:?}");

    let (_, serving) = backend(&address.to_string()).await;
    let up = next(&mut verdicts).await;
    assert_eq!((up.state, &up.reason), (Health::Up, &None));
    let recovered = wait_for(&engine, &target, |s| s.state == Health::Up).await;
    assert_eq!(
        recovered.last_failure.expect("remembered").reason,
        "connect: connection refused"
    );
    assert_eq!(recovered.since, up.at);
    assert!(recovered.latency.is_some());
    stop(serving).await;
}

#[test]
fn spellings_of_one_question_are_one_target() {
    let backend: SocketAddr = "192.0.2.1:80".parse().expect("address");
    let at = |port| Check {
        port,
        ..Check::default()
    };
    let plain = ProbeTarget::new(backend, &at(None));
    assert_eq!(plain, ProbeTarget::new(backend, &at(Some(80))));
    assert_eq!(
        plain,
        ProbeTarget::new(SocketAddr::new(backend.ip(), 443), &at(Some(80)))
    );
    assert_ne!(plain, ProbeTarget::new(backend, &at(Some(81))));
    let ping = Check {
        kind: Kind::Ping(PingCheck),
        ..Check::default()
    };
    assert_eq!(
        ProbeTarget::new(backend, &ping),
        ProbeTarget::new(SocketAddr::new(backend.ip(), 443), &ping)
    );
    assert_eq!(
        ProbeTarget::new(
            backend,
            &Check {
                kind: Kind::None(NoCheck),
                ..Check::default()
            }
        ),
        None
    );
}

#[tokio::test]
async fn a_check_without_a_port_says_what_to_do() {
    let (engine, mut verdicts) = Engine::spawn();
    engine.set_targets(
        HashSet::from([tcp("127.0.0.1:0".parse().expect("address"), timing(50, 20))]),
        &Beliefs::new(),
    );
    let reason = next(&mut verdicts).await.reason.expect("a reason");
    assert!(reason.contains("set `port` in its check"), "{reason}");
}

/// The ping needs root or a group in `ping_group_range`.
#[tokio::test]
async fn every_kind_of_check_reaches_its_verdict() {
    let (engine, mut verdicts) = Engine::spawn();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        let busy = |_| async { hyper::Response::builder().status(503).body(String::new()) };
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server
                .serve_connection(TokioIo::new(stream), service_fn(busy))
                .await;
        }
    });
    let target = |address: SocketAddr, kind| {
        ProbeTarget::new(
            address,
            &Check {
                kind,
                timing: timing(50, 20),
                ..Check::default()
            },
        )
        .expect("a target")
    };
    let loopback = |text: &str| SocketAddr::new(text.parse().expect("address"), 0);
    let expected = HashMap::from([
        (target(address, Kind::Tcp(TcpCheck)), None),
        (
            target(address, Kind::Http(HttpCheck::default())),
            Some("http status 503, expected 200-299".to_owned()),
        ),
        (target(loopback("127.0.0.1"), Kind::Ping(PingCheck)), None),
        (target(loopback("::1"), Kind::Ping(PingCheck)), None),
    ]);
    engine.set_targets(expected.keys().cloned().collect(), &Beliefs::new());
    let mut found = HashMap::new();
    for _ in 0..expected.len() {
        let verdict = next(&mut verdicts).await;
        assert_eq!(verdict.state == Health::Down, verdict.reason.is_some());
        found.insert(verdict.target, verdict.reason);
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn targets_that_stay_keep_their_state_and_removed_ones_are_left_alone() {
    let (engine, mut verdicts) = Engine::spawn();
    let (first, _serving_first) = backend("127.0.0.1:0").await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.set_nonblocking(true).expect("nonblocking");
    let [kept, removed] =
        [first, listener.local_addr().expect("address")].map(|address| tcp(address, timing(30, 20)));
    engine.set_targets(HashSet::from([kept.clone(), removed.clone()]), &Beliefs::new());
    for _ in 0..2 {
        assert_eq!(next(&mut verdicts).await.state, Health::Up);
    }
    let before = wait_for(&engine, &kept, |s| s.checks >= 3).await;

    let last = engine.status(&removed).expect("a status").checks;
    engine.set_targets(HashSet::from([kept.clone()]), &Beliefs::new());
    assert_eq!(engine.snapshot().keys().collect::<Vec<_>>(), [&kept]);
    // In this time the removed one would have been checked as often; one check may have been under way.
    let after = wait_for(&engine, &kept, |s| s.checks >= before.checks + 10).await;
    let connections = std::iter::from_fn(|| listener.accept().ok()).count() as u64;
    assert!(
        (last..=last + 1).contains(&connections),
        "the removed target is still checked: {connections} connections, {last} checks before"
    );
    assert_eq!((after.state, after.since), (Health::Up, before.since));

    engine.set_targets(HashSet::from([kept, removed.clone()]), &Beliefs::new());
    let back = next(&mut verdicts).await;
    assert_eq!((back.target, back.state), (removed, Health::Up));
}

/// An hour passes until the second check, so that one failure is all that can happen.
#[tokio::test]
async fn one_failure_of_a_backend_that_is_believed_to_be_up_is_no_verdict() {
    let (engine, mut verdicts) = Engine::spawn();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = closed.local_addr().expect("address");
    drop(closed);
    let hour = 3_600_000;
    let target = tcp(address, timing(hour, hour));
    let up = Belief {
        state: Health::Up,
        after: None,
    };
    engine.set_targets(
        HashSet::from([target.clone()]),
        &Beliefs::from([(target.clone(), up.clone())]),
    );
    let failed = wait_for(&engine, &target, |status| status.checks == 1).await;
    assert_eq!(failed.state, Health::Up);
    assert_eq!(
        failed.last_failure.expect("a failure").reason,
        "connect: connection refused"
    );
    assert!(verdicts.try_recv().is_err());

    // Others that ask the same at other times go on counting, until it is down.
    let mut before = target;
    for (interval, state) in [(hour - 1, Health::Up), (hour - 2, Health::Down)] {
        let next_one = tcp(address, timing(interval, interval));
        let belief = Belief {
            after: Some(before),
            ..up.clone()
        };
        engine.set_targets(
            HashSet::from([next_one.clone()]),
            &Beliefs::from([(next_one.clone(), belief)]),
        );
        let failed = wait_for(&engine, &next_one, |status| status.checks == 1).await;
        assert_eq!(failed.state, state);
        before = next_one;
    }
    assert_eq!(next(&mut verdicts).await.state, Health::Down);
}

#[tokio::test]
async fn a_belief_is_nothing_against_what_is_known() {
    let (engine, mut verdicts) = Engine::spawn();
    let (address, _serving) = backend("127.0.0.1:0").await;
    let hour = 3_600_000;
    let target = tcp(address, timing(hour, hour));
    let targets = HashSet::from([target.clone()]);
    engine.set_targets(targets.clone(), &Beliefs::new());
    let up = next(&mut verdicts).await;
    let down = Belief {
        state: Health::Down,
        after: None,
    };
    engine.set_targets(targets, &Beliefs::from([(target.clone(), down)]));
    let status = engine.status(&target).expect("a status");
    assert_eq!((status.state, status.since), (Health::Up, up.at));
}

#[tokio::test]
async fn dropping_the_engine_stops_every_check() {
    let (engine, mut verdicts) = Engine::spawn();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    engine.set_targets(
        HashSet::from([tcp(listener.local_addr().expect("address"), timing(20, 10))]),
        &Beliefs::new(),
    );
    next(&mut verdicts).await;
    drop(engine);
    assert!(
        timeout(PATIENCE, verdicts.recv())
            .await
            .expect("the channel closes")
            .is_none()
    );
}

/// The second service would look at its next interval only, which is far longer than the test's patience.
#[tokio::test]
async fn the_first_failure_of_a_host_hastens_its_other_checks() {
    let (engine, mut verdicts) = Engine::spawn();
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
    let (quick, serving_quick) = backend(&SocketAddr::new(address, 0).to_string()).await;
    let (slow, serving_slow) = backend(&SocketAddr::new(address, 0).to_string()).await;
    let (other, serving_other) = backend("127.0.0.78:0").await;
    let hour = 3_600_000;
    let targets = [
        tcp(quick, timing(100, 50)),
        tcp(slow, timing(hour, 50)),
        tcp(other, timing(hour, 50)),
    ];
    engine.set_targets(HashSet::from(targets.clone()), &Beliefs::new());
    for _ in &targets {
        assert_eq!(next(&mut verdicts).await.state, Health::Up);
    }
    for serving in [serving_quick, serving_slow, serving_other] {
        stop(serving).await;
    }
    let down: HashMap<_, _> = [next(&mut verdicts).await, next(&mut verdicts).await]
        .map(|verdict| (verdict.target, verdict.state))
        .into();
    assert_eq!(
        down,
        [
            (targets[0].clone(), Health::Down),
            (targets[1].clone(), Health::Down)
        ]
        .into()
    );
    assert_eq!(
        engine.snapshot()[&targets[2]].checks,
        1,
        "another host is none of their business"
    );
}

#[tokio::test]
async fn verdicts_are_dated() {
    let (engine, mut verdicts) = Engine::spawn();
    let (address, _serving) = backend("[::1]:0").await;
    let (before, started) = (SystemTime::now(), Instant::now());
    engine.set_targets(HashSet::from([tcp(address, timing(50, 20))]), &Beliefs::new());
    let verdict = next(&mut verdicts).await;
    assert!(before <= verdict.at && verdict.at <= SystemTime::now());
    assert!(verdict.latency <= started.elapsed());
}

/// A health check that fails by itself is begun again, and that is told.
#[tokio::test]
async fn a_check_that_panics_goes_on() {
    let vitals = Vitals::default();
    let (engine, mut verdicts) = Engine::spawn_in(None, vitals.clone());
    engine.let_probes_panic(2);
    let (address, _backend) = backend("127.0.0.1:0").await;
    engine.set_targets(HashSet::from([tcp(address, timing(50, 50))]), &Beliefs::new());
    assert_eq!(next(&mut verdicts).await.state, Health::Up);
    let told = vitals.ailments();
    assert_eq!(
        (told[0].part, told[0].failures, told[0].runs),
        ("a check of backends", 2, true)
    );
    assert!(told[0].why.contains(&address.to_string()), "{told:?}");
}
