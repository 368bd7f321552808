//! When drains begin and end, one by one and as properties.

use proptest::{collection::vec, prelude::*};

use super::*;
use lb_core::desired::{AdminState, BackendPatch, Change, Removal, Selection};

const WINDOW: u64 = 10;
const IDLE: u64 = 60;
const DEADLINE: u64 = 600;

fn service() -> Service {
    serde_json::from_value(serde_json::json!({
        "name": "web", "vips": ["192.0.2.80"], "protocol": "tcp", "port": 80, "forwarder": "ipip",
        "window": format!("{WINDOW}s"), "idle": format!("{IDLE}s"), "drain_deadline": format!("{DEADLINE}s"),
        "backend": [{"address": "10.0.0.5"}, {"address": "10.0.0.6", "zone": "x"}]
    }))
    .expect("a service")
}

fn backend_ref(backend: &str) -> BackendRef {
    BackendRef {
        service: "web".parse().expect("a name"),
        backend: backend.parse().expect("a backend"),
    }
}

/// Drains with a desired state to follow and a clock in seconds.
struct World {
    services: Services,
    drains: Drains,
    start: Instant,
    seconds: u64,
    packets: u64,
}

impl World {
    fn new() -> Self {
        Self {
            services: Services::new(vec![service()]).expect("valid"),
            drains: Drains::default(),
            start: Instant::now(),
            seconds: 0,
            packets: 0,
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds)
    }

    fn change(&mut self, change: Change) {
        let next = self.services.after(change).expect("a good change");
        let names = self.services.differing(&next).cloned().collect();
        self.services = next;
        self.drains.follow(&self.services, &names, self.now());
    }

    fn set(&mut self, state: AdminState, deadline: Option<&str>) {
        let patch = BackendPatch {
            state: Some(state),
            deadline: deadline.map(|text| Some(text.parse().expect("a span"))),
            ..BackendPatch::default()
        };
        let BackendRef { service, backend } = backend_ref("10.0.0.5");
        self.change(Change::SetBackend {
            service,
            backend,
            patch,
        });
    }

    /// Time passes; the counters are looked at every second.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.seconds += 1;
            self.drains.observe_packets(|_| self.packets, self.now());
        }
    }

    fn count_flows(&mut self, flows: u64) {
        let flows = HashMap::from([(backend_ref("10.0.0.5"), flows)]);
        self.drains.observe_flows(&flows, self.now());
    }

    fn ends(&self) -> Vec<DrainEnd> {
        let over = self.drains.outcomes(|_| false, self.now());
        over.into_iter().map(|over| over.end).collect()
    }
}

#[test]
fn silence_ends_a_drain() {
    let mut world = World::new();
    world.set(AdminState::Drain, None);
    world.pass(30);
    world.packets += 1;
    world.pass(IDLE);
    assert_eq!(world.ends(), [], "a packet came after half a minute");
    world.pass(1);
    assert_eq!(world.ends(), [DrainEnd::Silent]);
}

#[test]
fn without_flows_the_window_is_enough() {
    let mut world = World::new();
    world.set(AdminState::Drain, None);
    world.pass(1);
    world.count_flows(2);
    world.pass(WINDOW);
    assert_eq!(world.ends(), [], "two flows are left");
    world.count_flows(0);
    assert_eq!(world.ends(), [DrainEnd::NoFlows]);
    world.packets += 1;
    world.pass(WINDOW + 1);
    assert_eq!(world.ends(), [], "the flow of that packet has not been counted");
    world.count_flows(0);
    assert_eq!(world.ends(), [DrainEnd::NoFlows]);
}

#[test]
fn the_deadline_ends_what_goes_on() {
    let mut world = World::new();
    world.set(AdminState::Drain, Some("2m"));
    for _ in 0..119 {
        world.packets += 1;
        world.pass(1);
        world.count_flows(7);
    }
    assert_eq!(world.ends(), []);
    world.packets += 1;
    world.pass(1);
    let over = world.drains.outcomes(|_| false, world.now());
    assert_eq!((over[0].end, over[0].flows), (DrainEnd::Deadline, Some(7)));
}

#[test]
fn a_backend_that_is_down_has_no_flows_to_wait_for() {
    let mut world = World::new();
    world.set(AdminState::Drain, None);
    let over = world.drains.outcomes(
        |backend_ref| *backend_ref == self::backend_ref("10.0.0.5"),
        world.now(),
    );
    assert_eq!(
        over.iter().map(|over| over.end).collect::<Vec<_>>(),
        [DrainEnd::Down]
    );
}

#[test]
fn ready_gives_a_drain_up_and_the_next_begins_anew() {
    let mut world = World::new();
    world.set(AdminState::Drain, None);
    world.pass(IDLE - 1);
    world.set(AdminState::Ready, None);
    assert!(world.drains.is_empty());
    world.set(AdminState::Drain, None);
    world.pass(1);
    assert_eq!(world.ends(), []);
}

#[test]
fn a_drain_goes_on_when_its_backend_is_removed() {
    let mut world = World::new();
    world.set(AdminState::Drain, None);
    world.pass(IDLE - 1);
    let BackendRef { service, backend } = backend_ref("10.0.0.5");
    world.change(Change::RemoveBackend {
        service,
        backend,
        removal: Removal::Drain,
    });
    world.pass(1);
    assert_eq!(world.ends(), [DrainEnd::Silent]);
}

#[test]
fn the_desired_state_is_followed_to_the_end() {
    let mut world = World::new();
    let zone = Selection::of_zone("x".parse().expect("a zone"));
    world.change(Change::Drain(zone));
    let BackendRef { service, backend } = backend_ref("10.0.0.5");
    world.change(Change::RemoveBackend {
        service,
        backend,
        removal: Removal::Drain,
    });
    world.pass(IDLE);
    let over = world.drains.outcomes(|_| false, world.now());
    let names: Vec<_> = over
        .iter()
        .map(|over| (over.backend_ref.service.clone(), over.backend_ref.backend))
        .collect();
    let before = world.services.clone();
    world.change(Change::EndDrains(names));
    world.drains.remember(over, &before, 7);
    let backends = &world.services.iter().next().expect("still there").backends;
    let states: Vec<_> = backends.iter().map(|b| (b.id().to_string(), b.state)).collect();
    assert_eq!(states, [("10.0.0.6".to_owned(), AdminState::Maint)]);
    let mut ended = world.drains.all(&world.services, 7, world.now()).ended;
    ended.sort_by_key(|ended| ended.backend);
    assert_eq!(
        ended
            .iter()
            .map(|e| (e.leaving, e.generation))
            .collect::<Vec<_>>(),
        [(true, 7), (false, 7)]
    );
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut world = World::new();
    for _ in 0..Drains::REMEMBERED + 5 {
        let over = vec![DrainOutcome {
            backend_ref: backend_ref("10.0.0.5"),
            end: DrainEnd::Silent,
            flows: None,
        }];
        world.drains.remember(over, &world.services.clone(), 1);
    }
    let ended = world.drains.all(&world.services, 1, world.now()).ended;
    assert_eq!(ended.len(), Drains::REMEMBERED);
}

/// A deadline runs while no agent does, as far as somebody could know; the date says nothing.
#[test]
fn drains_of_a_checkpoint_go_on_by_the_time_that_is_known() {
    let begun = UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (before, passed, left) in [
        (0, 0, DEADLINE),
        (100, 0, DEADLINE - 100),
        (100, 50, DEADLINE - 150),
        (100, DEADLINE, 0),
    ] {
        let mut world = World::new();
        world.set(AdminState::Drain, None);
        let BackendRef { service, backend } = backend_ref("10.0.0.5");
        let state = DrainState {
            service,
            backend,
            since: begun,
        };
        let written = begun + Duration::from_secs(before);
        world.drains = Drains::restored(vec![state], written, Duration::from_secs(passed));
        world
            .drains
            .follow(&world.services, &world.services.names(), world.now());
        let drains = world.drains.all(&world.services, 1, world.now()).drains;
        assert_eq!(
            drains[0].drain.ends_in_seconds, left as f64,
            "{before} and {passed}"
        );
        let ends = if left == 0 {
            vec![DrainEnd::Deadline]
        } else {
            Vec::new()
        };
        assert_eq!(world.ends(), ends, "{before} and {passed}");
    }
}

proptest! {
    /// However agents come and go, the deadline is counted from the first one's begin.
    #[test]
    fn a_drain_outlives_its_agents(lives in vec(1u64..200, 1..6)) {
        let mut world = World::new();
        world.set(AdminState::Drain, None);
        let wall = |seconds| UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        for life in &lives {
            for _ in 0..*life {
                world.packets += 1;
                world.pass(1);
            }
            let states = world.drains.states(world.now(), wall(world.seconds));
            let json = serde_json::to_string(&states).expect("JSON");
            // The clock of another boot begins elsewhere.
            world.start = Instant::now();
            let states = serde_json::from_str(&json).expect("the same shape");
            world.drains = Drains::restored(states, wall(world.seconds), Duration::ZERO);
            world.drains
                .follow(&world.services, &world.services.names(), world.now());
        }
        let total: u64 = lives.iter().sum();
        let left = world.drains.all(&world.services, 1, world.now()).drains[0].drain.ends_in_seconds;
        prop_assert_eq!(left, DEADLINE.saturating_sub(total) as f64);
        prop_assert_eq!(!world.ends().is_empty(), total >= DEADLINE);
    }

    /// A drain ends at its deadline at the latest; before that never while packets come or flows are known to be
    /// left, unless it has been silent for the idle time.
    #[test]
    fn a_drain_ends_for_a_reason(steps in vec((1u64..30, any::<bool>(), proptest::option::of(0u64..3)), 1..60)) {
        let mut world = World::new();
        world.set(AdminState::Drain, None);
        let (mut last_packet, mut flows) = (0, None);
        for (seconds, packet, counted) in steps {
            if packet {
                world.packets += 1;
            }
            world.pass(1);
            // The first look at the counters is what the others are compared with.
            if packet && world.seconds > 1 {
                last_packet = world.seconds;
                flows = None;
            }
            world.pass(seconds);
            if let Some(counted) = counted {
                world.count_flows(counted);
                flows = Some(counted);
            }
            let silence = world.seconds - last_packet;
            let expected = if flows == Some(0) && silence >= WINDOW {
                vec![DrainEnd::NoFlows]
            } else if silence >= IDLE {
                vec![DrainEnd::Silent]
            } else if world.seconds >= DEADLINE {
                vec![DrainEnd::Deadline]
            } else {
                vec![]
            };
            prop_assert_eq!(world.ends(), expected);
        }
    }
}
