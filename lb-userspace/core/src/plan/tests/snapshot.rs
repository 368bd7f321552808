//! Tables that were lost and made again by name.

use lb_common::abi::{FlowKey, FlowState, FlowValue, ServiceEntry};

use super::*;
use crate::desired::BackendId;
use crate::plan::{layout::placed_pool::PlacedPool, pools::slots::MigratingSlot};

/// Reads a snapshot from what it was written as.
fn reread(snapshot: &LayoutSnapshot) -> LayoutSnapshot {
    rmp_serde::from_slice(&rmp_serde::to_vec_named(snapshot).unwrap()).unwrap()
}

/// Flows that every pool's cells own, one in each slot that is looked up.
fn flows(layout: &Layout, then: u32) -> Vec<(FlowKey, FlowValue)> {
    let of_pool = |placed: &PlacedPool| {
        let named: Vec<u32> = placed.owned().map(|(local, ..)| local).collect();
        let named = named
            .into_iter()
            .chain(placed.renamed.iter().map(|(from, _)| *from));
        let named: Vec<u32> = named.collect();
        let flow = |(i, entry): (usize, &MigratingSlot)| {
            let owner = named.get(i % named.len().max(1))?;
            let vip = (i % placed.pool.vips.len()) as u8;
            let id = ServiceEntry::id_of(placed.number as u16, vip);
            let key = FlowKey(u64::from(entry.slot) << 48 | i as u64);
            Some((
                key,
                FlowValue::new(*owner, FlowState::Established, id, then - i as u32),
            ))
        };
        placed
            .slots
            .migrating
            .iter()
            .enumerate()
            .filter_map(flow)
            .collect::<Vec<_>>()
    };
    layout
        .placed_pools
        .values()
        .flat_map(|placed| of_pool(placed))
        .collect()
}

/// The pool, VIP and backend that a flow belongs to.
fn backend_ref(layout: &Layout, value: FlowValue) -> Option<(PoolKey, crate::desired::Prefix, BackendId)> {
    let placed = layout
        .placed_pools
        .values()
        .find(|placed| placed.number == value.service())?;
    let renamed = placed.renamed.iter().find(|(from, _)| *from == value.owner());
    let local = renamed.map_or(value.owner(), |(_, to)| *to);
    let (_, backend, _) = placed.owned().find(|(cell, ..)| *cell == local)?;
    let vip = *placed.pool.vips.get(value.vip() as usize)?;
    Some((placed.pool.key.clone(), vip, backend))
}

impl Run {
    /// Whether `next`, which means the same, has the histories of now.
    fn histories_go_on(&self, next: &Layout) {
        expect::check_histories(next);
        let generations = |layout: &Layout| -> Vec<_> {
            let histories = layout.placed_pools.values().map(|placed| placed.history.as_ref());
            histories.map(|history| Some(history?.generation())).collect()
        };
        assert_eq!(generations(next), generations(&self.layout));
    }

    /// The kernel forgets everything, and the tables are made again from a snapshot.
    fn reboot(&mut self) {
        let samples = Sample::all();
        let before: Vec<Seen> = samples.iter().map(|sample| sample.seen(&self.memory)).collect();
        let snapshot = reread(&self.layout.snapshot());
        let (then, now) = (5_000, 70);
        let flows = flows(&self.layout, then);

        let mut memory = InMemory::new(&CAPACITY, SEED);
        memory.route = frames::ROUTE;
        memory.explains = true;
        let restored = Layout::restore(CAPACITY, SEED, &snapshot, self.now).expect("room for what had room");
        apply(&restored.writes, &mut memory);
        let flows_now: Vec<_> = snapshot
            .flows(&restored.layout, then, now, flows.iter().copied())
            .collect();
        let pools = restored.layout.pools(&self.world.services, &self.world);
        let plan = restored
            .layout
            .plan(pools, self.generation, self.now)
            .expect("room for what had room");
        apply(&plan.writes, &mut memory);

        for (sample, before) in samples.iter().zip(&before) {
            let seen = sample.seen(&memory);
            expect::check(sample, &seen, &self.world, &plan.layout);
            // The last known way to a backend that cannot be reached is not remembered.
            if sample.kind != Kind::FromBackend {
                assert_eq!(seen, *before, "{sample:?}");
            }
        }
        assert_eq!(flows_now.len(), flows.len());
        for ((old_key, old), (key, value)) in flows.iter().zip(&flows_now) {
            assert_eq!(key, old_key);
            assert_eq!(value.age(now), old.age(then));
            assert_eq!(value.state(), old.state());
            let owner = backend_ref(&self.layout, *old);
            assert!(owner.is_some());
            assert_eq!(backend_ref(&plan.layout, *value), owner);
        }
        for (key, old) in self.layout.placed_pools.iter() {
            let new = plan.layout.placed_pools.get(key).unwrap();
            assert_eq!(old.slots.current, new.slots.current, "{key:?}");
        }
        self.histories_go_on(&plan.layout);
        let mut adopted = Layout::adopt(CAPACITY, SEED, &mut self.memory, self.now).unwrap();
        adopted.recall_histories(&snapshot);
        let pools = adopted.pools(&self.world.services, &self.world);
        if let Ok(plan) = adopted.plan(pools, self.generation, self.now) {
            self.histories_go_on(&plan.layout);
        }
        self.layout = plan.layout;
        self.memory = memory;
        self.ledger = Ledger::default();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_flow_keeps_its_backend_over_a_reboot(
        before in vec(steps::step(), 1..15),
        after in vec(steps::step(), 0..5),
    ) {
        let mut run = Run::new();
        for step in before {
            run.step(step);
        }
        run.reboot();
        for step in after {
            run.step(step);
        }
    }
}

/// A pool of one backend that owns all slots.
fn web() -> PoolSnapshot {
    PoolSnapshot {
        service: "web".parse().unwrap(),
        v6_part: false,
        number: 3,
        vips: vec!["10.0.0.1".parse().unwrap()],
        protocol: crate::desired::Protocol::Tcp,
        port: "80".parse().unwrap(),
        flags: 0,
        cells: vec![CellSnapshot::Of("10.0.1.1".parse().unwrap())],
        slots: vec![0; 128].into(),
        previous: Vec::new().into(),
        history: None,
    }
}

/// A snapshot that was not made by a layout is refused with a reason, or makes tables that work.
#[test]
fn contradictions_are_refused() {
    let pool = web();
    let with = |change: &dyn Fn(&mut PoolSnapshot)| {
        let mut pool = pool.clone();
        change(&mut pool);
        LayoutSnapshot {
            seed: SEED,
            pools: vec![pool],
        }
    };
    let restore = |snapshot: &LayoutSnapshot| Layout::restore(CAPACITY, SEED, snapshot, Instant::now());
    assert!(restore(&with(&|_| ())).is_ok());
    let twice = LayoutSnapshot {
        seed: SEED,
        pools: vec![pool.clone(), pool.clone()],
    };
    let wrong: [(LayoutSnapshot, &str); 6] = [
        (with(&|pool| pool.slots = vec![0; 127].into()), "half a slot"),
        (with(&|pool| pool.slots = vec![0; 32].into()), "no table"),
        (with(&|pool| pool.slots[5] = 1), "nobody"),
        (with(&|pool| pool.slots[5] = 0x80), "missing"),
        (with(&|pool| pool.cells.clear()), "nobody"),
        (twice, "twice"),
    ];
    for (snapshot, reason) in wrong {
        let error = restore(&snapshot).unwrap_err().to_string();
        assert!(error.contains("web") && error.contains(reason), "{error}");
    }
    let large = with(&|pool| pool.slots = vec![0; 1 << 17].into());
    assert!(restore(&large).unwrap_err().to_string().contains("max_slots"));
}

/// Flows are saved less often than tables: they are read by the names that they had then.
#[test]
fn older_flows_find_their_backends_in_newer_tables() {
    let forwarder = crate::desired::Forwarder::L2dsr;
    let mut run = Run::new();
    let load = |run: &mut Run, backends: &[&str]| {
        let web = cases::service("web", "10.0.0.1", "80", forwarder, backends);
        run.step(cases::load(vec![web]));
    };
    load(&mut run, &["10.0.1.1"]);
    load(&mut run, &["10.0.1.1", "10.0.1.2"]);
    let (old, flows) = (run.layout.clone(), flows(&run.layout, 9000));
    load(&mut run, &["10.0.1.2"]);
    let newer = Layout::restore(CAPACITY, SEED, &run.layout.snapshot(), run.now)
        .unwrap()
        .layout;
    let owners = |layout: &Layout, flows: &[(FlowKey, FlowValue)]| -> Vec<_> {
        flows
            .iter()
            .filter_map(|(_, value)| backend_ref(layout, *value))
            .collect()
    };
    let mut expected = owners(&old, &flows);
    assert_eq!(expected.len(), flows.len());
    expected.retain(|(_, _, backend)| *backend == "10.0.1.2".parse().unwrap());
    assert!(!expected.is_empty() && expected.len() < flows.len());
    let remembered = old.snapshot();
    let moved: Vec<_> = remembered.flows(&newer, 9000, 7, flows).collect();
    assert_eq!(owners(&newer, &moved), expected);
    assert_eq!(moved.len(), expected.len());
}

/// After a crash slots may name a cell that their owner has given up for another.
#[test]
fn who_is_named_by_an_older_cell_serves_as_well() {
    let id: BackendId = "10.0.1.1".parse().unwrap();
    let pool = PoolSnapshot {
        cells: vec![CellSnapshot::Renamed(id), CellSnapshot::Of(id)],
        ..web()
    };
    let snapshot = LayoutSnapshot {
        seed: SEED,
        pools: vec![pool],
    };
    let plan = Layout::restore(CAPACITY, SEED, &snapshot, Instant::now()).unwrap();
    let mut memory = InMemory::new(&CAPACITY, SEED);
    let serving = plan.layout.serving(&mut memory).into_iter();
    assert_eq!(
        serving.map(|backend_ref| backend_ref.backend).collect::<Vec<_>>(),
        [id]
    );
}

/// A history that leads elsewhere is found.
#[test]
fn a_history_of_other_slots_is_found() {
    let mut run = Run::new();
    let forwarder = crate::desired::Forwarder::L2dsr;
    let web = cases::service("web", "10.0.0.1", "80", forwarder, &["10.0.1.1", "10.0.1.2"]);
    run.step(cases::load(vec![web]));
    let mut snapshot = reread(&run.layout.snapshot());
    assert_eq!(snapshot.check_histories(), Ok(()));
    snapshot.pools[0].cells.swap(0, 1);
    let error = snapshot.check_histories().unwrap_err().to_string();
    assert!(error.contains("web") && error.contains("history"), "{error}");
}

/// Under another seed flows have other slots: who owned a slot before says nothing about them.
#[test]
fn another_seed_keeps_the_tables_only() {
    let mut run = Run::new();
    let forwarder = crate::desired::Forwarder::L2dsr;
    for backends in [&["10.0.1.1"][..], &["10.0.1.1", "10.0.1.2"]] {
        let web = cases::service("web", "10.0.0.1", "80", forwarder, backends);
        run.step(cases::load(vec![web]));
    }
    let flows = flows(&run.layout, 9000);
    assert!(!flows.is_empty());
    let snapshot = run.layout.snapshot();
    let restored = Layout::restore(CAPACITY, SEED + 1, &snapshot, run.now)
        .unwrap()
        .layout;
    assert_eq!(snapshot.flows(&restored, 9000, 9, flows).count(), 0);
    for (key, old) in run.layout.placed_pools.iter() {
        let new = restored.placed_pools.get(key).unwrap();
        assert!(new.slots.migrating.is_empty() && new.slots.current.iter().all(|slot| !slot.is_migrating()));
        let owners = |placed: &PlacedPool| {
            placed
                .slots
                .current
                .iter()
                .map(|slot| slot.owner())
                .collect::<Vec<_>>()
        };
        assert_eq!(owners(old), owners(new));
    }
}
