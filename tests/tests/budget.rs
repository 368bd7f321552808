//! The programs stay within the budget of `tests/budget.toml`.

use lb_common::abi::PROGRAM;
use lb_tests::bench::Budget;
use lb_userspace::{dataplane::Dataplane, plan::Capacity};

#[test]
fn the_verifier_walks_through_no_more_instructions_than_budgeted() {
    let budget = Budget::load().unwrap();
    let most = budget.verified_instructions[PROGRAM];
    let capacity = Capacity {
        services: 16,
        targets: 16,
        slots: 4096,
        flows: 4096,
    };
    let dataplane = Dataplane::load(&capacity, 0, false).unwrap();
    let info = dataplane.program().unwrap().info().unwrap();
    let verified = info.verified_instruction_count().expect("Linux 5.16 tells this");
    assert!(
        (1..=most).contains(&verified),
        "the verifier walked through {verified} instructions of `{PROGRAM}`, the budget is {most}: make it simpler, or \
         raise the budget in tests/budget.toml and say why"
    );
}
