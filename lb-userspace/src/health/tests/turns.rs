//! Turns: how many checks run at once, and who waits for whom.

use super::*;

/// One permit and many targets that hold it for long: they wait, and none is called down for it.
#[tokio::test]
async fn waiting_for_our_own_turn_fails_nobody() {
    let (engine, mut verdicts) = Engine::spawn_with(1, 64);
    let slow = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let slow_address = slow.local_addr().expect("address");
    let http = Check {
        kind: Kind::Http(HttpCheck::default()),
        timing: Timing {
            timeout: ms(150),
            ..timing(10, 10)
        },
        ..Check::default()
    };
    let silent = ProbeTarget::new(slow_address, &http).expect("a target");
    let (address, _serving) = backend("127.0.0.1:0").await;
    // A different `rise` makes a different target.
    let fine: Vec<_> = (1..=10)
        .map(|rise| {
            tcp(
                address,
                Timing {
                    rise,
                    ..timing(10, 10)
                },
            )
        })
        .collect();
    engine.set_targets(
        fine.iter().cloned().chain([silent.clone()]).collect(),
        &Beliefs::new(),
    );
    let mut states = HashMap::new();
    for _ in 0..=fine.len() {
        let verdict = next(&mut verdicts).await;
        states.insert(verdict.target, verdict.state);
    }
    assert_eq!(states.remove(&silent), Some(Health::Down));
    assert!(states.values().all(|&state| state == Health::Up), "{states:?}");
    for target in &fine {
        let status = wait_for(&engine, target, |s| s.checks >= 3).await;
        assert_eq!(status.last_failure, None);
    }
}

/// An address whose server accepts nobody, so that who connects waits.
fn silent_backend() -> (SocketAddr, impl Sized) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
    listener.bind(&any.into()).expect("bind");
    listener.listen(0).expect("listen");
    let address = listener.local_addr().expect("address").as_socket().expect("IPv4");
    let held = std::net::TcpStream::connect(address).expect("the backlog's one place");
    (address, (listener, held))
}

/// Four permits, and eight targets that hold theirs for longer than anybody waits: another one is checked all the same.
#[tokio::test]
async fn dead_targets_leave_turns_to_those_that_serve() {
    let (engine, mut verdicts) = Engine::spawn_with(4, 64);
    let (silent, _held) = silent_backend();
    let dead: HashSet<ProbeTarget> = (1..=8)
        .map(|rise| {
            tcp(
                silent,
                Timing {
                    rise,
                    ..timing(10, 10)
                },
            )
        })
        .collect();
    let down = Belief {
        state: Health::Down,
        after: None,
    };
    let beliefs = dead.iter().map(|target| (target.clone(), down.clone())).collect();
    engine.set_targets(dead.clone(), &beliefs);
    // By then all that may be are under way.
    sleep(ms(300)).await;
    let (address, _serving) = backend("127.0.0.1:0").await;
    let living = tcp(address, timing(10, 10));
    let all = dead.into_iter().chain([living.clone()]).collect();
    engine.set_targets(all, &Beliefs::new());
    let up = next(&mut verdicts).await;
    assert_eq!((up.target, up.state), (living, Health::Up));
}
