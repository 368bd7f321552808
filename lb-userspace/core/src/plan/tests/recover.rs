//! An agent dies at any instant, and another takes over what it finds.

use super::{reach::Ledger, *};

impl Run {
    /// The agent dies after that many steps of a plan, of which `last` was the last one. A new one always gets things
    /// right; what packets see meanwhile is checked now and then, and so are the many ways in which control words are
    /// half copied, since that takes long.
    pub(super) fn crash(&self, last: &Write, written: usize) {
        if matches!(last, Write::Publish(_)) && !written.is_multiple_of(4) {
            return;
        }
        self.recovered(&self.memory);
        if (written as u64 + self.generation).is_multiple_of(8) {
            self.recover(&self.memory, written % 7);
            self.settled(&self.memory);
        }
    }

    /// After a crash that left `memory`: a new agent reads it back and brings it to the desired state. On the way packets find
    /// what they found at the crash, or what the desired state says. `again` tells after how many writes that agent dies too.
    fn recover(&self, memory: &InMemory, again: usize) {
        let samples = Sample::all();
        let mut memory = memory.clone();
        let writes = self.recovery(&memory).writes;
        let mut after = memory.clone();
        apply(&writes, &mut after);
        let old: Vec<Seen> = samples.iter().map(|sample| sample.seen(&memory)).collect();
        let new: Vec<Seen> = samples.iter().map(|sample| sample.seen(&after)).collect();
        let mut ledger = Ledger::default();
        for (i, write) in writes.iter().enumerate() {
            ledger.check(write, &memory, self.now);
            apply(std::slice::from_ref(write), &mut memory);
            for ((sample, old), new) in samples.iter().zip(&old).zip(&new) {
                let seen = sample.seen(&memory);
                assert!(
                    seen == *old || seen == *new,
                    "recovering, after {write:?}\n{sample:?}\nsaw {seen:?}\nbefore {old:?}\nafter {new:?}"
                );
            }
            if i == again {
                self.recovered(&memory);
            }
        }
        self.recovered(&memory);
    }

    /// The plan from what is found to the desired state.
    fn recovery(&self, memory: &InMemory) -> Plan {
        let mut memory = memory.clone();
        let mut layout =
            Layout::adopt(CAPACITY, SEED, &mut memory, self.now).expect("tables that an agent left");
        let pools = layout.pools(&self.world.services, &self.world);
        match layout.plan(pools.clone(), self.generation, self.now) {
            Err(_) if layout.has_retired() => {
                layout = layout.sweep_after_wait(&mut memory, TIME, self.now).layout;
                layout.release_all();
                layout.plan(pools, self.generation, self.now)
            }
            planned => planned,
        }
        .expect("room for what had room")
    }

    /// Whether the desired state comes true from what is found, also where room must be made first.
    fn settled(&self, memory: &InMemory) {
        let mut memory = memory.clone();
        let layout = Layout::adopt(CAPACITY, SEED, &mut memory, self.now).expect("tables that an agent left");
        assert!(layout.is_recovered() && !layout.wants_sweep());
        let plan = layout
            .plan(layout.present(), self.generation, self.now)
            .expect("nothing new");
        apply(&plan.writes, &mut memory);
        let mut layout = plan.layout.sweep_after_wait(&mut memory, TIME, self.now).layout;
        layout.release_all();
        let pools = layout.pools(&self.world.services, &self.world);
        let plan = layout
            .plan(pools, self.generation, self.now)
            .expect("room for what had room");
        apply(&plan.writes, &mut memory);
        for sample in Sample::all() {
            expect::check(&sample, &sample.seen(&memory), &self.world, &plan.layout);
        }
        self.recovered(&memory);
    }

    /// Whether the desired state comes true from what is found.
    pub(super) fn recovered(&self, memory: &InMemory) {
        let mut memory = memory.clone();
        let plan = self.recovery(&memory);
        apply(&plan.writes, &mut memory);
        for sample in Sample::all() {
            expect::check(&sample, &sample.seen(&memory), &self.world, &plan.layout);
        }
        expect::check_shares(&self.world, &plan.layout);
        let adopted =
            Layout::adopt(CAPACITY, SEED, &mut memory, self.now).expect("tables that an agent left");
        assert_eq!(adopted.generation(), self.generation);
        let again = self.recovery(&memory);
        assert!(
            matches!(again.writes[..], [Write::Publish(_)]),
            "once there, nothing is written: {:?}",
            again.writes
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn whichever_write_was_the_last_one_a_new_agent_gets_things_right(steps in vec(steps::step(), 1..15)) {
        let mut run = Run { crashes: true, ..Run::new() };
        for step in steps {
            run.step(step);
        }
    }
}
