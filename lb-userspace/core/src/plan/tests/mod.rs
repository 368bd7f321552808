//! The planner against tables in memory: whatever is changed and learnt, in whatever order, packets find the right
//! backend afterwards, and on the way they never see half a change.

mod cases;
mod damage;
mod delta;
mod documented;
mod expect;
mod flows;
mod frames;
mod lent;
mod reach;
mod recover;
mod snapshot;
mod steps;
mod sweeps;
mod translations;

use std::time::{Duration, Instant};

use lb_common::{
    abi::{CellEntry, Control, PoolEntry, Slot},
    pipeline::FlowTables,
};
use proptest::{collection::vec, prelude::*};

use super::*;
use frames::{Kind, Sample, Seen};
use reach::Ledger;
use steps::{Step, World};

const CAPACITY: Capacity = Capacity {
    services: 16,
    targets: 24,
    slots: 2048,
    flows: 4096,
    nat_flows: 4096,
};
const SEED: u64 = 77;
const TIME: FlowTime = FlowTime {
    now: 1000,
    unit: Duration::from_millis(256),
};

/// Tables, and everything that led to them.
struct Run {
    world: World,
    layout: Layout,
    memory: InMemory,
    ledger: Ledger,
    now: Instant,
    generation: u64,
    /// Whether the agent dies at every instant.
    crashes: bool,
}

impl Run {
    fn new() -> Self {
        let mut memory = InMemory::new(&CAPACITY, SEED);
        let layout = Layout::new(CAPACITY, SEED);
        memory.route = frames::ROUTE;
        // Samples are looks at the tables, and leave no flows there.
        memory.explains = true;
        Self {
            world: World::default(),
            layout,
            memory,
            ledger: Ledger::default(),
            now: Instant::now(),
            generation: 0,
            crashes: false,
        }
    }

    fn step(&mut self, step: Step) {
        let before = self.world.clone();
        if let Step::Pass(millis) = step {
            self.now += Duration::from_millis(millis);
        }
        self.world.take(step);
        let fits = match self.plan() {
            Ok(plan) => {
                self.carry_out(plan);
                true
            }
            // As the agent does it: the desired state is refused, and everything stays.
            Err(_) => {
                self.world = before;
                false
            }
        };
        let sweep = self.layout.sweep(&mut self.memory, TIME, self.now);
        self.take(sweep, self.crashes);
        if fits {
            self.check_nothing_is_left();
        }
        expect::check_histories(&self.layout);
    }

    /// What a sweep does changes nothing for packets that open flows. `crashes` tells whether the agent dies meanwhile.
    fn take(&mut self, sweep: Sweep, crashes: bool) {
        let opening = |sample: &Sample| sample.kind != Kind::ToService || sample.opens;
        let samples: Vec<Sample> = Sample::all().into_iter().filter(opening).collect();
        let seen = |memory: &InMemory| samples.iter().map(|s| s.seen(memory)).collect::<Vec<Seen>>();
        let before = seen(&self.memory);
        let reach = reach::Reach::of(&self.memory);
        for write in &sweep.writes {
            self.ledger.check(write, &self.memory, self.now);
            apply(std::slice::from_ref(write), &mut self.memory);
            assert_eq!(seen(&self.memory), before, "in the midst of {write:?}");
            if crashes {
                self.recovered(&self.memory);
            }
        }
        self.ledger
            .settle(&reach, &reach::Reach::of(&self.memory), self.now);
        self.layout = sweep.layout;
    }

    /// As the agent plans: what was given up of late is used after a wait, if there is no other room.
    fn plan(&mut self) -> Result<Plan, CapacityError> {
        self.generation += 1;
        let pools = self.layout.pools(&self.world.services, &self.world);
        let planned = self.layout.plan(pools.clone(), self.generation, self.now);
        self.check_delta(&planned);
        match planned {
            Err(_) if self.layout.has_retired() => {
                self.ledger.wait();
                let sweep = self.layout.sweep_after_wait(&mut self.memory, TIME, self.now);
                // The desired state may be refused yet.
                self.take(sweep, false);
                self.layout.release_all();
                self.layout.plan(pools, self.generation, self.now)
            }
            planned => planned,
        }
    }

    fn carry_out(&mut self, plan: Plan) {
        let samples = Sample::all();
        let old: Vec<Seen> = samples.iter().map(|sample| sample.seen(&self.memory)).collect();
        let mut after = self.memory.clone();
        apply(&plan.writes, &mut after);
        let new: Vec<Seen> = samples.iter().map(|sample| sample.seen(&after)).collect();

        let before = reach::Reach::of(&self.memory);
        let halves = self.layout.published.control.halves;
        let mut written = 0;
        for write in &plan.writes {
            self.ledger.check(write, &self.memory, self.now);
            let previous = self.memory.clone();
            for part in parts(write, &previous) {
                apply(std::slice::from_ref(&part), &mut self.memory);
                for ((sample, old), new) in samples.iter().zip(&old).zip(&new) {
                    let seen = sample.seen(&self.memory);
                    assert!(
                        seen == *old || seen == *new,
                        "in the midst of {part:?}\n{sample:?}\nsaw {seen:?}\nbefore {old:?}\nafter {new:?}"
                    );
                }
                if self.crashes {
                    written += 1;
                    self.crash(&part, written);
                }
            }
        }
        self.ledger
            .settle(&before, &reach::Reach::of(&self.memory), self.now);
        if plan.layout.published.control.halves != halves {
            self.ledger.switch(self.now);
        }
        self.layout = plan.layout;
        for (sample, new) in samples.iter().zip(&new) {
            expect::check(sample, new, &self.world, &self.layout);
        }
        expect::check_shares(&self.world, &self.layout);
    }
}

/// The states that packets, or a new agent, may find while a write is carried out, as writes of their own: slots change
/// one by one, records word by word, and the control words byte by byte.
fn parts(write: &Write, memory: &InMemory) -> Vec<Write> {
    match write {
        Write::Slots { line, slots } => {
            let old = (0..slots.len() as u32 / 32).flat_map(|i| memory.slots(line + i).expect("a line").0);
            let half = slots.len() / 2;
            let mixed: Vec<Slot> = slots.iter().copied().take(half).chain(old.skip(half)).collect();
            let first = Write::Slots {
                line: *line,
                slots: mixed.into(),
            };
            vec![first, write.clone()]
        }
        Write::Previous { line, slots } => {
            let old = memory.previous[*line as usize..].iter().flat_map(|line| line.0);
            let half = slots.len() / 2;
            let old = old.take(slots.len()).skip(half);
            let mixed: Vec<Slot> = slots.iter().copied().take(half).chain(old).collect();
            let first = Write::Previous {
                line: *line,
                slots: mixed.into(),
            };
            vec![first, write.clone()]
        }
        Write::Cell { index, record } => {
            let old = memory.read_cell(*index);
            let half = |old: CellEntry| Write::Cell {
                index: *index,
                record: CellEntry { serial: 0, ..old },
            };
            let mixed = CellEntry {
                port: record.port,
                ..old
            };
            vec![half(old), half(mixed), half(*record), write.clone()]
        }
        Write::Pool { number, record } => {
            const WORDS: usize = size_of::<PoolEntry>() / 8;
            let mut words: [u64; WORDS] = bytemuck::cast(memory.read_pool(u32::from(*number)));
            let mut seen = Vec::new();
            for (i, new) in bytemuck::cast::<_, [u64; WORDS]>(*record).into_iter().enumerate() {
                if words[i] != new {
                    words[i] = new;
                    let (number, record) = (*number, bytemuck::cast(words));
                    seen.push(Write::Pool { number, record });
                }
            }
            seen
        }
        Write::Publish(new) => {
            let steps = new.steps_from(&memory.control);
            let from = [memory.control, steps[0], steps[1]];
            from.iter()
                .zip(&steps)
                .flat_map(|(from, to)| torn(from, to))
                .map(Write::Publish)
                .collect()
        }
        _ => vec![write.clone()],
    }
}

/// What packets may read while `to` is copied over `from` byte by byte.
fn torn(from: &Control, to: &Control) -> Vec<Control> {
    const BYTES: usize = size_of::<Control>();
    let (mut bytes, to) = (
        bytemuck::cast::<Control, [u8; BYTES]>(*from),
        bytemuck::bytes_of(to),
    );
    let mut seen = vec![*from];
    for (i, new) in to.iter().enumerate() {
        if bytes[i] != *new {
            bytes[i] = *new;
            seen.push(bytemuck::cast(bytes));
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn packets_see_the_old_tables_or_the_new_ones(steps in vec(steps::step(), 1..20)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
    }
}
