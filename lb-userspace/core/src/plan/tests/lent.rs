//! Backends that go out and come back: they get their slots back, whoever went out with them, in whatever order.

use std::collections::HashMap;

use lb_common::abi::{FlowKey, FlowState, FlowValue};
use proptest::sample::subsequence;

use super::*;
use crate::desired::{Backend, BackendId, Forwarder, Protocol, Service};

/// A service whose backends have those weights.
fn web(weights: &[u16], protocol: Protocol) -> Service {
    let backend = |(i, weight): (usize, &u16)| Backend {
        weight: *weight,
        ..Backend::new(id(i))
    };
    Service {
        protocol,
        slots: Some(256),
        backends: weights.iter().enumerate().map(backend).collect(),
        ..cases::service("web", "10.0.0.1", "80", Forwarder::L2dsr, &[])
    }
}

fn id(i: usize) -> BackendId {
    format!("10.0.1.{}", i + 10).parse().unwrap()
}

/// What happens between going out and coming back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    Nothing,
    /// The agent dies, and another one reads the tables back.
    Restart,
}

impl Run {
    fn of(service: Service) -> Self {
        let mut run = Self::new();
        run.step(cases::load(vec![service]));
        run
    }

    fn out(&mut self, backend: usize, is_out: bool) {
        self.out_at_once(&[backend], is_out);
    }

    /// All of them within one plan.
    fn out_at_once(&mut self, backends: &[usize], is_out: bool) {
        for backend in backends {
            self.world.take(Step::Up(id(*backend).address, !is_out));
        }
        self.go_on();
    }

    /// What [`Run::step`] does, without a look at each packet.
    fn go_on(&mut self) {
        let plan = self.plan().expect("room");
        apply(&plan.writes, &mut self.memory);
        self.layout = plan.layout;
        let sweep = self.layout.sweep(&mut self.memory, TIME, self.now);
        apply(&sweep.writes, &mut self.memory);
        self.layout = sweep.layout;
        expect::check_shares(&self.world, &self.layout);
        expect::check_histories(&self.layout);
    }

    fn restart(&mut self) {
        self.layout = Layout::adopt(CAPACITY, SEED, &mut self.memory, self.now).unwrap();
        self.go_on();
    }

    /// Who owns each slot, as packets find it.
    fn owned(&self) -> Vec<Option<BackendId>> {
        let placed = self.layout.placed_pools.values().next().expect("a pool");
        let cells: HashMap<u32, BackendId> = placed.owned().map(|(local, id, _)| (local, id)).collect();
        let owner = |slot: &Slot| slot.owner().map(|owner| cells[&owner]);
        placed.slots.current.iter().map(owner).collect()
    }
}

fn moved(old: &[Option<BackendId>], new: &[Option<BackendId>]) -> usize {
    old.iter().zip(new).filter(|(old, new)| old != new).count()
}

/// Weights, who goes out in which order, and in which order they come back.
fn outage() -> impl Strategy<Value = (Vec<u16>, Vec<usize>, Vec<usize>)> {
    let weights = prop_oneof![
        2 => (1..9_usize).prop_map(|n| vec![1; n]),
        3 => vec(1..=20_u16, 1..9),
        1 => vec(prop_oneof![Just(1_u16), Just(65_535), any::<u16>()], 1..9),
    ];
    weights.prop_flat_map(|weights| {
        let all: Vec<usize> = (0..weights.len()).collect();
        let some = subsequence(all.clone(), 1..=weights.len());
        (Just(weights), some.prop_shuffle())
            .prop_flat_map(|(weights, out)| (Just(weights), Just(out.clone()), Just(out).prop_shuffle()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn out_and_back_gives_the_table_that_was(
        (weights, out, back) in outage(),
        at_once in any::<(bool, bool)>(),
        udp in any::<bool>(),
        meanwhile in prop_oneof![2 => Just(Meanwhile::Nothing), 1 => Just(Meanwhile::Restart)],
    ) {
        let mut run = Run::of(web(&weights, if udp { Protocol::Udp } else { Protocol::Tcp }));
        let before = run.owned();
        let mut last = before.clone();
        let of_those_out = |table: &[Option<BackendId>], out: &[usize]| {
            table.iter().filter(|owner| owner.is_some_and(|owner| out.iter().any(|i| id(*i) == owner))).count()
        };
        if at_once.0 {
            run.out_at_once(&out, true);
            // Nobody loses a slot but for the rounding of shares.
            let table = run.owned();
            prop_assert!(moved(&before, &table) <= of_those_out(&before, &out) + weights.len());
        } else {
            for (i, backend) in out.iter().enumerate() {
                run.out(*backend, true);
                let table = run.owned();
                prop_assert!(moved(&last, &table) <= of_those_out(&last, &out[..=i]) + weights.len());
                last = table;
            }
        }
        if meanwhile == Meanwhile::Restart {
            run.restart();
        }
        if at_once.1 {
            run.out_at_once(&back, false);
        } else {
            for backend in &back {
                run.out(*backend, false);
            }
        }
        let differing = moved(&before, &run.owned());
        // The tables in the kernel do not tell whose a slot is that a backend gave up to even out shares.
        let rounding = if meanwhile == Meanwhile::Restart && weights.iter().any(|w| *w != weights[0]) {
            weights.len()
        } else {
            0
        };
        prop_assert!(differing <= rounding, "{} slots are somebody else's", differing);
    }

    #[test]
    fn one_backend_out_and_back_moves_its_own_slots_only(weights in vec(1..=20_u16, 2..9)) {
        let mut run = Run::of(web(&[1; 8][..weights.len()], Protocol::Tcp));
        let before = run.owned();
        let own = before.iter().filter(|owner| **owner == Some(id(0))).count();
        run.out(0, true);
        prop_assert_eq!(moved(&before, &run.owned()), own);
        run.out(0, false);
        prop_assert_eq!(run.owned(), before);
    }
}

/// A pool that nobody serves keeps its table for as long as that takes.
#[test]
fn a_pool_without_owners_keeps_its_table() {
    let mut run = Run::of(web(&[3, 2, 1], Protocol::Tcp));
    // A history, so that the table is not the one that the backends have without one.
    run.step(Step::Touch("web".parse().unwrap(), 1, Some(weight(7))));
    run.step(Step::Touch("web".parse().unwrap(), 1, Some(weight(2))));
    let before = run.owned();
    for restart in [false, true] {
        run.out_at_once(&[0, 1, 2], true);
        assert!(run.owned().iter().all(Option::is_none));
        run.step(Step::Pass(3_600_000));
        if restart {
            run.restart();
        }
        for backend in [2, 0, 1] {
            run.out(backend, false);
        }
        let differing = moved(&before, &run.owned());
        assert_eq!(differing, 0);
    }
}

fn weight(weight: u16) -> crate::desired::BackendPatch {
    crate::desired::BackendPatch {
        weight: Some(weight),
        ..Default::default()
    }
}

/// A backend that is out for longer than the window comes back like any other: flows of those who stood in for it stay.
#[test]
fn who_comes_back_late_is_a_newcomer() {
    let mut run = Run::of(web(&[1, 1, 1], Protocol::Tcp));
    run.out(0, true);
    let placed = run.layout.placed_pools.values().next().unwrap();
    let lent = placed.slots.lent.len();
    assert!(lent > 0 && placed.slots.migrating.len() == lent);
    assert!(run.layout.wants_sweep());
    run.step(Step::Pass(121_000));
    run.step(Step::Pass(2_000));
    run.step(Step::Pass(2_000));
    let placed = run.layout.placed_pools.values().next().unwrap();
    assert!(placed.slots.lent.is_empty() && placed.slots.migrating.is_empty());
    assert!(!run.layout.wants_sweep());
    run.out(0, false);
    let placed = run.layout.placed_pools.values().next().unwrap();
    let before = |entry: &pools::slots::MigratingSlot| placed.slots.previous[entry.slot as usize].owner();
    let now = |entry: &pools::slots::MigratingSlot| placed.slots.current[entry.slot as usize].owner();
    assert!(
        placed
            .slots
            .migrating
            .iter()
            .all(|entry| before(entry) != now(entry))
    );
}

/// What was written down of a backend's flows waits for it, where it is known who opens flows meanwhile.
#[test]
fn flows_in_the_table_are_back_with_their_backend() {
    let mut run = Run::of(web(&[1], Protocol::Tcp));
    run.step(cases::load(vec![web(&[1, 1], Protocol::Tcp)]));
    let placed = run.layout.placed_pools.values().next().unwrap().clone();
    let cell = placed.cell_of()[&id(1)];
    let service = lb_common::abi::ServiceEntry::id_of(placed.number as u16, 0);
    let value = |owner| FlowValue::new(owner, FlowState::Established, service, TIME.now);
    let flow = |i: usize| FlowKey(u64::from(placed.slots.migrating[i].slot) << 48 | 5);
    assert!(run.memory.insert_flow(flow(0), value(cell)));
    assert!(run.memory.insert_flow(flow(1), value(cell)));
    let known = |run: &mut Run| {
        let mut known = Vec::new();
        run.memory.visit_flows(&mut |key, value| {
            known.push((key, value.owner()));
            None
        });
        known.sort_unstable_by_key(|(key, _)| key.0);
        known
    };
    run.out(1, true);
    assert_eq!(known(&mut run), []);
    // Its client has begun another one by the same ports meanwhile.
    assert!(run.memory.insert_flow(flow(1), value(1 - cell)));
    run.out(1, false);
    assert_eq!(known(&mut run), [(flow(0), cell), (flow(1), 1 - cell)]);
}
