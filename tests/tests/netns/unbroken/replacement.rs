//! The program is replaced again and again while frames run through it, and every frame is counted where it arrives.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lb_tests::{
    bench::{Segments, Stream},
    lab::{Forwarder, Lab},
};
use lb_userspace::{
    dataplane::{Dataplane, Mode, Origin, PinDir},
    netlink::find_interface,
    plan::Capacity,
};

use super::{Plan, Stage, during};
use crate::support::{LIMIT, NO_CHECK, xdp_on};

/// By agents that start anew, and by further replacements in one process.
const RESTARTS: usize = 10;
const REPLACEMENTS: usize = 490;
/// How long frames run without a replacement.
const CONTROL: Duration = Duration::from_secs(3);
/// More than a veth's queue holds (256), but not at the same time: see [`Stream::send`]. The run without a replacement
/// proves it.
const BURST: u32 = 4096;
/// 1,024 flows.
const FLOWS: Segments = Segments::Established { bits: 10 };

/// Sends bursts, each when the last has arrived, until told to stop or until a frame is missing.
fn run_frames(lab: &Lab, target: SocketAddr, stop: &AtomicBool) -> Sum {
    let client = SocketAddr::new(lab.clients[0].ipv4, 1024);
    let stream = Stream::new(&lab.wire, &lab.balancer.port, client, target, FLOWS).unwrap();
    let mut sum = Sum::default();
    let before = lab.counted().unwrap();
    while sum.sent == sum.arrived && !stop.load(Ordering::Relaxed) {
        stream.send(BURST).unwrap();
        sum.sent += u64::from(BURST);
        let deadline = Instant::now() + LIMIT;
        while sum.arrived < sum.sent && Instant::now() < deadline {
            sum.arrived = lab.counted().unwrap() - before;
        }
    }
    sum
}

/// What was sent and what arrived.
#[derive(Debug, Default)]
struct Sum {
    sent: u64,
    arrived: u64,
}

/// Runs `work` while frames run; all of them must arrive.
fn lose_nothing(what: &str, lab: &Lab, target: SocketAddr, work: impl FnOnce()) {
    let (Sum { sent, arrived }, ()) = during(|stop| run_frames(lab, target, stop), work);
    println!("{what}: {sent} frames sent, {arrived} arrived");
    assert_eq!(sent, arrived, "{what}");
    assert!(sent >= 10 * u64::from(BURST), "{what}: only {sent} frames");
}

/// Takes the dataplane over and gives it program after program.
fn replace(pins: &Path) {
    // What is there has its sizes already.
    let capacity = Capacity {
        services: 1,
        targets: 1,
        slots: 65_536,
        flows: 4096,
    };
    let mut dataplane = Dataplane::open(PinDir::lock(pins).unwrap(), &capacity, 0, false).unwrap();
    assert_eq!(dataplane.origin(), Origin::Adopted);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let interface = runtime.block_on(find_interface("eth0")).unwrap();
    dataplane.attach(vec![interface], Mode::Native).unwrap();
    let mut programs = BTreeSet::new();
    for _ in 0..REPLACEMENTS {
        dataplane.replace().unwrap();
        programs.insert(dataplane.program_id().unwrap());
    }
    assert_eq!(programs.len(), REPLACEMENTS, "each time another program");
}

#[test]
fn programs_are_replaced_without_a_lost_packet() {
    let mut stage = Stage::new(Plan {
        keys: vec![("check", NO_CHECK.to_owned())],
        ..Plan::new(Forwarder::L2dsr, 2)
    });
    let (target, rig) = (stage.target, &mut stage.rig);
    rig.lab.count_at_backends().unwrap();
    lose_nothing("control, without a replacement", &rig.lab, target, || {
        thread::sleep(CONTROL);
    });
    let first = xdp_on(&rig.lab.balancer.namespace, "eth0");
    lose_nothing("agents that start anew", &rig.lab, target, || {
        for _ in 0..RESTARTS {
            rig.agent.kill().unwrap();
            rig.agent.start_again().unwrap();
        }
    });
    rig.agent.kill().unwrap();
    let pins = rig.agent.pins().pin_dir();
    lose_nothing("replacements", &rig.lab, target, || {
        rig.lab.balancer.namespace.run(|| replace(&pins)).unwrap();
    });
    assert_ne!(xdp_on(&rig.lab.balancer.namespace, "eth0"), first);
    rig.agent.start_again().unwrap();
    assert_eq!(rig.drops(), []);
}
