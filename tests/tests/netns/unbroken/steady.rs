//! What the other tests rest on: connections that nothing happens to live, and those of a failed backend are seen to
//! break.

use std::time::Instant;

use lb_api::view::BackendState;
use lb_lab::Forwarder;

use super::{
    Plan, Stage, by_server,
    failures::{Failure, account},
    wait_until,
};

#[test]
fn connections_live_while_nothing_happens() {
    let stage = Stage::new(Plan::new(Forwarder::Ipip, 4));
    let echoes = stage.hold(2000);
    let before = echoes.connections();
    wait_until("all connections have echoed on", || {
        let now = echoes.connections();
        // What has ended echoes no more: the account is going to say why.
        let mut pairs = before.iter().zip(&now);
        pairs.all(|(before, now)| now.end.is_some() || now.echoes >= before.echoes + 10)
    });
    let after = echoes.stop().unwrap();
    let account = account(&after, &[]);
    println!("{account}");
    assert_eq!(by_server(&after).len(), 4, "all backends have some");
    let ended = after.iter().find(|connection| connection.end.is_some());
    assert!(ended.is_none(), "{ended:?}");
}

#[test]
fn connections_of_a_failed_backend_are_seen_to_break() {
    let mut stage = Stage::new(Plan {
        v6: true,
        waits: true,
        ..Plan::new(Forwarder::L2dsr, 4)
    });
    let echoes = stage.hold(200);
    let killed = Instant::now();
    stage.rig.kill_server(1);
    stage
        .rig
        .wait_for_state("web", stage.addresses[1], BackendState::Down);
    let detected = Instant::now();
    wait_until("others take the places of the broken ones", || {
        let connections = echoes.connections();
        connections.iter().filter(|connection| connection.lives()).count() == 200
    });
    let connections = echoes.stop().unwrap();
    let failure = Failure {
        server: "backend-2".into(),
        killed,
        detected,
    };
    let account = account(&connections, &[failure]);
    assert!(account.failed > 10, "{account:?}");
}
