//! What a sweep forgets, and when: entries by their state, and windows of backends that are to have no new flows.

use lb_common::{
    abi::{FlowKey, FlowState, FlowValue, ServiceEntry as Entry},
    net::{TCP, UDP},
};

use super::{
    cases::{load, service},
    *,
};
use crate::desired::{
    AdminState, BackendId, BackendPatch, Change, Forwarder, Protocol, Removal, Service, TrackingPolicy,
};

const VIP: &str = "10.0.0.1";
const BACKENDS: [&str; 2] = ["10.0.1.1", "10.0.1.2"];
/// Which of them is to have no new flows.
const LEAVING: usize = 1;

fn web() -> Service {
    Service {
        slots: Some(256),
        ..service("web", VIP, "80", Forwarder::L2dsr, &BACKENDS)
    }
}

/// The flow clock, seconds later.
fn later(seconds: u64) -> FlowTime {
    let units = Duration::from_secs(seconds).as_nanos() / TIME.unit.as_nanos();
    FlowTime {
        now: TIME.now + units as u32,
        ..TIME
    }
}

/// Whether the entry of a flow in that state outlives so many seconds of silence.
fn is_remembered(service: &Service, state: FlowState, seconds: u64) -> bool {
    let mut run = Run::new();
    run.step(load(vec![service.clone()]));
    let placed = run.layout.placed_pools.values().next().unwrap();
    let (owner, ..) = placed.owned().next().unwrap();
    let id = Entry::id_of(placed.number as u16, 0);
    let value = FlowValue::new(owner, state, id, TIME.now);
    assert!(run.memory.insert_flow(FlowKey(7 << 48 | 7), value));
    run.layout.sweep(&mut run.memory, later(seconds), run.now).live == 1
}

/// A client that is done may wait for its answer as long as any other may be silent, up to four minutes.
#[test]
fn a_flow_is_remembered_for_as_long_as_its_state_says() {
    use FlowState::{Closing, Embryonic, Established, Reset};
    let cases = [
        // Window and idle time, then what each state is worth, in seconds.
        (
            (None, None),
            [(Embryonic, 120), (Established, 900), (Closing, 240), (Reset, 10)],
        ),
        (
            (Some("20s"), None),
            [(Embryonic, 20), (Established, 900), (Closing, 240), (Reset, 10)],
        ),
        (
            (Some("20s"), Some("1m")),
            [(Embryonic, 20), (Established, 60), (Closing, 60), (Reset, 10)],
        ),
        (
            (Some("10m"), None),
            [(Embryonic, 600), (Established, 900), (Closing, 600), (Reset, 10)],
        ),
    ];
    for ((window, idle), states) in cases {
        let service = Service {
            window: window.map(|text| text.parse().unwrap()),
            idle: idle.map(|text| text.parse().unwrap()),
            tracking: TrackingPolicy::Always,
            ..web()
        };
        for (state, seconds) in states {
            assert!(
                is_remembered(&service, state, seconds),
                "{window:?}, {idle:?}, {state:?}"
            );
            // A second and two units more, by the clock's grain.
            assert!(
                !is_remembered(&service, state, seconds + 3),
                "{window:?}, {idle:?}, {state:?}"
            );
        }
    }
}

/// A way to have a backend take no new flows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Drained,
    Removed,
    Weightless,
}

impl Way {
    fn change(self) -> Change {
        let (service, backend) = ("web".parse().unwrap(), BACKENDS[LEAVING].parse().unwrap());
        let patch = match self {
            Self::Removed => {
                return Change::RemoveBackend {
                    service,
                    backend,
                    removal: Removal::Drain,
                };
            }
            Self::Drained => BackendPatch {
                state: Some(AdminState::Drain),
                ..BackendPatch::default()
            },
            Self::Weightless => BackendPatch {
                weight: Some(0),
                ..BackendPatch::default()
            },
        };
        Change::SetBackend {
            service,
            backend,
            patch,
        }
    }
}

/// Where a packet goes that opens no flow; written down if it `leaves_traces`.
fn owner(run: &mut Run, protocol: u8, port: u16, leaves_traces: bool) -> BackendId {
    let sample = Sample {
        kind: Kind::ToService,
        source: "198.51.100.1".parse().unwrap(),
        destination: VIP.parse().unwrap(),
        protocol,
        ports: [port, 80],
        opens: false,
    };
    run.memory.explains = !leaves_traces;
    let seen = sample.seen(&run.memory);
    run.memory.explains = true;
    run.layout.owner(seen.outcome.target).unwrap().backend
}

/// What of UDP is not written down by the end of the window goes to others, however the backend was taken out. TCP's new
/// flows show that they are new, so a backend that drains keeps those that were silent, too.
#[test]
fn whoever_takes_no_new_flows_gets_unknown_datagrams_for_the_window_only() {
    let leaving: BackendId = BACKENDS[LEAVING].parse().unwrap();
    for (transport, protocol, window) in [(Protocol::Udp, UDP, 10_000), (Protocol::Tcp, TCP, 120_000)] {
        for way in [Way::Drained, Way::Removed, Way::Weightless] {
            let mut run = Run::new();
            run.memory.clock = TIME.now;
            run.step(load(vec![Service {
                protocol: transport,
                ..web()
            }]));
            let ports: Vec<u16> = (1000..1256)
                .filter(|port| owner(&mut run, protocol, *port, false) == leaving)
                .collect();
            assert!(ports.len() > 64, "{} of 256", ports.len());
            let (written, silent) = ports.split_at(8);
            run.step(Step::Change(way.change()));
            run.step(Step::Pass(window - 1000));
            for port in written {
                assert_eq!(owner(&mut run, protocol, *port, true), leaving);
            }
            for port in silent {
                assert_eq!(owner(&mut run, protocol, *port, false), leaving);
            }
            run.step(Step::Pass(1000));
            let keeps_silent = transport == Protocol::Tcp && way != Way::Weightless;
            for port in silent {
                let is_there = owner(&mut run, protocol, *port, false) == leaving;
                assert_eq!(is_there, keeps_silent, "{transport:?}, {way:?}");
            }
            for port in written {
                assert_eq!(
                    owner(&mut run, protocol, *port, true),
                    leaving,
                    "{transport:?}, {way:?}"
                );
            }
            let flows = |run: &mut Run, time| {
                let found = run.layout.sweep(&mut run.memory, time, run.now).flows;
                let of = |(backend_ref, flows): (BackendRef, u64)| {
                    (backend_ref.backend == leaving).then_some(flows)
                };
                found.into_iter().find_map(of)
            };
            // Their second packet has been seen: they are remembered for the idle time.
            assert_eq!(flows(&mut run, TIME), Some(8));
            assert_eq!(flows(&mut run, later(100)), Some(8));
            assert_eq!(flows(&mut run, later(1000)), Some(0));
        }
    }
}
