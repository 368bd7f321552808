//! The kernel forgets tables and flows, as it does over a reboot, and the connections go on.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant, SystemTime},
};

use lb_api::view::DataplaneOrigin;
use lb_lab::{Forwarder, traffic::echo::Echoes};

use super::{Plan, Stage, by_server, failures::account, wait_until};
use crate::support::{LIMIT, YEAR, xdp_on};

const HELD: u32 = 200;
const IN_SERVICE: usize = 3;
/// Packets are lost for that long, and TCP sends them again.
const OUTAGE: Duration = Duration::from_secs(1);

/// The backend that each connection is sent to, by the client's port, as `lb explain` says.
fn explained(stage: &Stage, echoes: &[&Echoes]) -> BTreeMap<u16, Option<String>> {
    let connections = echoes.iter().flat_map(|echoes| echoes.connections());
    let ports = connections.filter_map(|connection| connection.port);
    ports
        .map(|port| (port, stage.rig.explain_tcp(port, stage.target).backend))
        .collect()
}

/// Waits until each connection has had an answer to a question of now.
fn wait_until_heard(echoes: &[&Echoes]) {
    let now = Instant::now();
    wait_until("all connections echo again", || {
        echoes.iter().all(|echoes| {
            let connections = echoes.connections();
            let lost = connections
                .iter()
                .find(|connection| connection.broken().is_some());
            assert!(lost.is_none(), "{lost:?}");
            connections
                .iter()
                .all(|connection| connection.heard.is_some_and(|heard| heard > now))
        })
    });
}

fn add(stage: &Stage, backend: usize) {
    stage
        .rig
        .lb(&["backend", "add", "web", &stage.addresses[backend].to_string()]);
}

/// Nothing of the dataplane is left, and nothing is forwarded.
fn gone(stage: &Stage) {
    assert_eq!(xdp_on(&stage.rig.lab.balancer.namespace, "eth0"), []);
    thread::sleep(OUTAGE);
}

/// An agent starts as after a reboot, on checkpoints as if they had been written at `taken`: every connection goes where
/// it went before.
fn comes_back(
    stage: &mut Stage,
    echoes: &[&Echoes],
    before: &BTreeMap<u16, Option<String>>,
    taken: SystemTime,
) {
    let checkpoints = stage.rig.agent.config_file().with_file_name("state/checkpoints");
    lb_fixture::redate_all(&checkpoints, taken).unwrap();
    stage.rig.agent.start_again().unwrap();
    assert_eq!(stage.rig.agent.status().unwrap().origin, DataplaneOrigin::New);
    assert_eq!(explained(stage, echoes), *before);
    wait_until_heard(echoes);
}

#[test]
fn connections_go_on_after_tables_and_flows_were_lost() {
    let mut stage = Stage::new(Plan {
        spare: 2,
        waits: true,
        ..Plan::new(Forwarder::L2dsr, IN_SERVICE)
    });
    // These are in slots that others own soon, and stay with who owned them before.
    let old = stage.hold(HELD);
    add(&stage, IN_SERVICE);
    // Of these, some are on the new backend in slots with a previous owner: only the flow table knows.
    let new = stage.hold(HELD);
    let newcomer = stage.rig.lab.backends[IN_SERVICE].name.as_str();
    let on_newcomer = by_server(&new.connections()).get(newcomer).copied();
    assert!(on_newcomer.is_some_and(|count| count > 20), "{on_newcomer:?}");
    wait_until_heard(&[&old]);
    let before = explained(&stage, &[&old, &new]);
    assert_eq!(before.len(), 2 * HELD as usize);

    // The agent ends in good order.
    stage.rig.lb(&["stop", "--detach"]);
    assert!(stage.rig.agent.process().wait(LIMIT).unwrap().success());
    gone(&stage);
    comes_back(&mut stage, &[&old, &new], &before, SystemTime::now() - YEAR);

    // It dies, and its flows are in an older checkpoint than its last change.
    stage.rig.lb(&["checkpoint", "save"]);
    add(&stage, IN_SERVICE + 1);
    wait_until_heard(&[&old, &new]);
    stage.rig.agent.kill().unwrap();
    let pins = stage.rig.agent.pins().pin_dir();
    let detach = ["stop", "--detach", "--pin-dir", pins.to_str().unwrap()];
    assert!(stage.rig.agent.cli(&detach).unwrap().status.success());
    gone(&stage);
    comes_back(&mut stage, &[&old, &new], &before, SystemTime::now() + YEAR);

    let held = [old.stop().unwrap(), new.stop().unwrap()].concat();
    println!("{}", account(&held, &[]));
}
