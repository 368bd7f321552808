//! A flood of SYNs while slots are unsafe, so that every one of them asks for an entry in the flow table.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use lb_bench::{Segments, Stream};
use lb_common::abi::TrackingCounters;
use lb_lab::{
    Forwarder, Lab,
    traffic::echo::{EchoOptions, Echoes},
};
use serde_json::json;

use super::{Plan, Stage, during, failures::account};

const BACKENDS: usize = 6;
const HELD: u32 = 500;
/// Legitimate new connections: about 400 a second, each with two echoes.
const SHORT: u32 = 80;
const SHORT_LIFE: u64 = 2;
const INTERVAL: Duration = Duration::from_millis(100);
/// How often the flood comes in.
const TICK: Duration = Duration::from_millis(50);
/// One after the other; with them slots are unsafe from the first to the last.
const CHANGES: usize = 16;
const PACE: Duration = Duration::from_millis(600);
/// Of a thousand legitimate connections so many may fail.
const MAY_FAIL: usize = 1;

/// How many SYNs come in a tick.
#[derive(Debug, Clone, Copy)]
enum Strength {
    /// So many for each legitimate connection that was opened.
    PerConnection(u32),
    /// That many.
    Fixed(u32),
}

/// Sends SYNs from addresses that backends have no way back to, until told to stop; how many.
fn flood(lab: &Lab, target: SocketAddr, legitimate: &Echoes, strength: Strength, stop: &AtomicBool) -> u64 {
    let source = SocketAddr::new(IpAddr::from([198, 18, 0, 1]), 1024);
    let segments = Segments::Opening;
    let stream = Stream::new(&lab.wire, &lab.balancer, source, target, segments).unwrap();
    let (mut opened, mut sent) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let count = match strength {
            Strength::PerConnection(each) => {
                let now = legitimate.connections().len() as u32;
                let new = now - opened;
                opened = now;
                each * new
            }
            Strength::Fixed(count) => count,
        };
        if count > 0 {
            stream.send(count).unwrap();
        }
        sent += u64::from(count);
        thread::sleep(TICK);
    }
    sent
}

/// Weights change, and a backend is drained and comes back.
fn change(stage: &Stage) {
    for step in 0..CHANGES {
        let patch = match step % 4 {
            0 => json!({ "weight": 5 }),
            1 => json!({ "state": "drain" }),
            2 => json!({ "weight": 1 }),
            _ => json!({ "state": "ready" }),
        };
        let backend = if step % 2 == 0 {
            step / 2 % BACKENDS
        } else {
            BACKENDS - 1
        };
        let path = format!("/v1/services/web/backends/{}", stage.addresses[backend]);
        stage.rig.write("PATCH", &path, Some(&patch));
        thread::sleep(PACE);
    }
}

fn flood_during_changes(strength: Strength, dataplane: &'static str) -> TrackingCounters {
    let stage = Stage::new(Plan {
        dataplane,
        ..Plan::new(Forwarder::L2dsr, BACKENDS)
    });
    let held = stage.hold(HELD);
    let short = stage.echo(EchoOptions {
        life: Some(SHORT_LIFE),
        interval: INTERVAL,
        ..EchoOptions::new(stage.target, SHORT)
    });
    let flood = |stop: &AtomicBool| flood(&stage.rig.lab, stage.target, &short, strength, stop);
    let (sent, ()) = during(flood, || change(&stage));
    let (held, short) = (held.stop().unwrap(), short.stop().unwrap());
    let failed: Vec<_> = short
        .iter()
        .filter_map(|connection| connection.broken())
        .collect();
    let counters = stage.flow_table().counters();
    println!(
        "{sent} SYNs of a flood; {} of {} new connections failed; {}; {counters:?}",
        failed.len(),
        short.len(),
        account(&held, &[])
    );
    assert!(short.len() > 1000 && sent > 5 * short.len() as u64);
    assert!(
        failed.len() * 1000 <= short.len() * MAY_FAIL,
        "{:?}",
        failed.iter().map(|(_, how)| how).take(20).collect::<Vec<_>>()
    );
    assert!(counters.inserted > 1000, "{counters:?}");
    counters
}

#[test]
fn a_syn_flood_during_a_change() {
    let counters = flood_during_changes(Strength::PerConnection(10), "");
    assert_eq!(counters.refused, 0, "the budget is for more than that");
}

/// So many, for a flow table so small, that the service's budget of new entries is used up all the time.
#[test]
fn a_syn_flood_beyond_the_budget() {
    let counters = flood_during_changes(Strength::Fixed(1024), "[dataplane]\nmax_flows = 65536");
    assert!(counters.refused > 1000, "{counters:?}");
}
