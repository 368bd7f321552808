//! Many targets at once, and a receiver that is slower than their verdicts.

use super::*;

/// A receiver that sleeps loses nothing: every target's verdict waits for it.
#[tokio::test]
async fn a_full_channel_delays_verdicts_and_loses_none() {
    let (engine, mut verdicts) = Engine::spawn_with(64, 2);
    let (address, _serving) = backend("127.0.0.1:0").await;
    let targets: HashSet<_> = (1..=50)
        .map(|rise| {
            tcp(
                address,
                Timing {
                    rise,
                    ..timing(20, 10)
                },
            )
        })
        .collect();
    engine.set_targets(targets.clone(), &Beliefs::new());
    for target in &targets {
        wait_for(&engine, target, |s| s.checks == 1 || s.state == Health::Up).await;
    }
    let mut reported = HashSet::new();
    for _ in &targets {
        reported.insert(next(&mut verdicts).await.target);
    }
    assert_eq!(reported, targets);
}

/// Distinct loopback addresses, one listener on all of them.
#[tokio::test]
async fn two_thousand_targets_stay_up_and_the_processor_time_is_told() {
    let port = busy_backend();
    let targets: HashSet<_> = (0..2000u16)
        .map(|i| {
            let [high, low] = i.to_be_bytes();
            let address = SocketAddr::new(Ipv4Addr::new(127, 1, high, low).into(), port);
            tcp(address, timing(1000, 250))
        })
        .collect();
    let (engine, mut verdicts) = Engine::spawn();
    let (wall, processor) = (Instant::now(), processor_time());
    engine.set_targets(targets.clone(), &Beliefs::new());
    for _ in 0..targets.len() {
        let verdict = next(&mut verdicts).await;
        assert_eq!(verdict.state, Health::Up, "{verdict:?}");
    }
    let first = wall.elapsed();
    for target in &targets {
        wait_for(&engine, target, |s| s.checks >= 3).await;
    }
    let (wall, processor) = (wall.elapsed(), processor_time() - processor);
    let snapshot = engine.snapshot();
    assert_eq!(snapshot.len(), targets.len());
    let failed: Vec<_> = snapshot
        .iter()
        .filter(|(_, s)| s.state != Health::Up || s.last_failure.is_some())
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    let checks: u64 = snapshot.values().map(|status| status.checks).sum();
    println!(
        "2,000 targets: all up after {first:?}; {checks} checks in {wall:?} took {processor:?} of processor time, \
         both ends and all other tests of this process included"
    );
}

/// Accepts on every loopback address, on a thread of its own and with a backlog for all at once; the port.
fn busy_backend() -> u16 {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    socket
        .bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())
        .expect("bind");
    socket.listen(4096).expect("listen");
    let listener = std::net::TcpListener::from(socket);
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    port
}

fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("usage");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.try_into().expect("a positive time"))
}
