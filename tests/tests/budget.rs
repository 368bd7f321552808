//! The programs stay within the budget of `tests/budget.toml`.

use lb_common::abi::{DETOUR_PROGRAM, PROGRAM};
use lb_tests::bench::Budget;
use lb_userspace::{
    dataplane::{Dataplane, Settings},
    plan::Capacity,
};

#[test]
fn the_verifier_walks_through_no_more_instructions_than_budgeted() {
    let budget = Budget::load().unwrap();
    let capacity = Capacity {
        services: 16,
        targets: 16,
        slots: 4096,
        flows: 4096,
        nat_flows: 4096,
    };
    let dataplane = Dataplane::load(&capacity, 0, Settings::default()).unwrap();
    let programs = [
        (PROGRAM, dataplane.program()),
        (DETOUR_PROGRAM, dataplane.detour_program()),
    ];
    for (name, program) in programs {
        let most = budget.verified_instructions[name];
        let info = program.unwrap().info().unwrap();
        let verified = info.verified_instruction_count().expect("Linux 5.16 tells this");
        println!("{name}: {verified} of {most}");
        assert!(
            (1..=most).contains(&verified),
            "the verifier walked through {verified} instructions of `{name}`, the budget is {most}: make it simpler, or \
             raise the budget in tests/budget.toml and say why"
        );
    }
}
