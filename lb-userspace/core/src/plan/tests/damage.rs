//! Tables that no agent left like that.

use super::*;
use crate::plan::tables::in_memory::Part;

/// One byte of some map.
fn damage() -> impl Strategy<Value = (Part, usize, u8)> {
    (proptest::sample::select(Part::ALL), any::<usize>(), any::<u8>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_refused_or_mended(
        steps in vec(steps::step(), 1..8),
        damages in vec(damage(), 1..6),
    ) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        let mut memory = run.memory.clone();
        for (part, at, byte) in damages {
            memory.damage(part, at, byte);
        }
        let adopted = Layout::adopt(CAPACITY, SEED, &mut memory, run.now);
        let Ok(layout) = adopted else {
            let text = adopted.unwrap_err().to_string();
            prop_assert!(text.contains("lb stop --detach"), "{}", text);
            return Ok(());
        };
        let pools = layout.pools(&run.world.services, &run.world);
        let Ok(plan) = layout.plan(pools, run.generation, run.now) else {
            return Ok(());
        };
        apply(&plan.writes, &mut memory);
        for sample in Sample::all() {
            expect::check(&sample, &sample.seen(&memory), &run.world, &plan.layout);
        }
        expect::check_shares(&run.world, &plan.layout);
    }
}
