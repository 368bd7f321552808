//! What a sweep forgets, and when: entries by their state.

use lb_common::abi::{FlowKey, FlowState, FlowValue, Service as Entry};

use super::{
    cases::{load, service},
    *,
};
use crate::model::{Forwarder, Service, Tracking};

const VIP: &str = "10.0.0.1";
const BACKENDS: [&str; 2] = ["10.0.1.1", "10.0.1.2"];

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
    let placed = run.layout.placed.values().next().unwrap();
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
            tracking: Tracking::Always,
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
