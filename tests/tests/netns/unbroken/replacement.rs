//! The program is replaced again and again while frames run through it, and every frame is counted where it arrives.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lb_bench::{Segments, Stream};
use lb_core::plan::Capacity;
use lb_lab::{Forwarder, Lab};
use lb_userspace::dataplane::{Dataplane, DataplaneSource, Mode, PinDir, Settings};
use lb_userspace::netlink::find_interface;

use super::{Plan, Stage, during};
use crate::support::{LIMIT, NO_CHECK, xdp_on};

/// By agents that start anew, and by further replacements in one process.
const RESTARTS: usize = 10;
const REPLACEMENTS: usize = 490;
/// How long frames run without a replacement.
const CONTROL: Duration = Duration::from_secs(3);
/// More than a veth's queue holds (256), but not at the same time: see [`Stream::send`].
const BURST: u32 = 4096;
/// 1,024 flows.
const FLOWS: Segments = Segments::Established { bits: 10 };

/// Sends bursts, each when the last has arrived, until told to stop or until a frame is missing.
fn run_frames(lab: &Lab, target: SocketAddr, stop: &AtomicBool) -> Sum {
    let client = SocketAddr::new(lab.clients[0].ipv4, 1024);
    let stream = Stream::new(&lab.wire, &lab.balancer, client, target, FLOWS).unwrap();
    let (counted, dropped) = (lab.counted().unwrap(), dropped(lab));
    let mut sum = Sum::default();
    while sum.is_complete() && !stop.load(Ordering::Relaxed) {
        stream.send(BURST).unwrap();
        sum.sent += u64::from(BURST);
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            sum.arrived = lab.counted().unwrap() - counted;
            if sum.arrived < sum.sent {
                // Seldom looked at, as that takes longer than a burst.
                thread::sleep(Duration::from_millis(2));
                sum.overflowed = self::dropped(lab) - dropped;
            }
            if sum.is_complete() {
                break;
            }
        }
    }
    sum
}

/// Frames that the lab's own queues had no room for, as the interfaces of the wire count them. Two batches may meet
/// there on a busy machine: the queue's CPU is then the one that an ARP packet came by, and that is occupied.
fn dropped(lab: &Lab) -> u64 {
    let read = || fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let table = lab.wire.run(read).unwrap();
    let interfaces = table.lines().filter(|line| line.trim_start().starts_with("to-"));
    let counters = interfaces.map(|line| {
        let (_, counters) = line.split_once(':').unwrap();
        let counters: Vec<u64> = counters.split_whitespace().map(|n| n.parse().unwrap()).collect();
        // Dropped on receiving, and on sending.
        counters[3] + counters[11]
    });
    counters.sum()
}

/// What became of frames.
#[derive(Debug, Default)]
struct Sum {
    sent: u64,
    arrived: u64,
    overflowed: u64,
}

impl Sum {
    /// Whether every frame is accounted for.
    fn is_complete(&self) -> bool {
        self.arrived + self.overflowed == self.sent
    }
}

/// Runs `work` while frames run; all of them must arrive, but those that never came through the lab's own queues.
fn lose_nothing(what: &str, lab: &Lab, target: SocketAddr, work: impl FnOnce()) {
    let (sum, ()) = during(|stop| run_frames(lab, target, stop), work);
    println!("{what}: {sum:?}");
    assert!(sum.is_complete(), "{what}: frames are lost: {sum:?}");
    // A lab that overflows all the time proves nothing.
    assert!(sum.overflowed * 50 <= sum.sent, "{what}: {sum:?}");
    assert!(sum.sent >= 10 * u64::from(BURST), "{what}: {sum:?}");
}

/// Takes the dataplane over and gives it program after program.
fn replace(pins: &Path) {
    // What is there has its sizes already.
    let capacity = Capacity {
        services: 1,
        targets: 1,
        slots: 65_536,
        flows: 4096,
        nat_flows: 4096,
    };
    let mut dataplane =
        Dataplane::open(PinDir::lock(pins).unwrap(), &capacity, 0, Settings::default()).unwrap();
    assert_eq!(dataplane.origin(), DataplaneSource::Adopted);
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
