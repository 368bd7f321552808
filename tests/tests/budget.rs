//! The programs stay within the budget of `tests/budget.toml`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failure of the test's own steps is a failure of the test"
)]

use aya::programs::Xdp;
use lb_bench::Budget;
use lb_common::{
    abi::{DETOUR_PROGRAM, PROGRAM},
    decap,
};
use lb_core::desired::Forwarder;
use lb_core::plan::Capacity;
use lb_userspace::backend::decap::{Decap, DecapRules};
use lb_userspace::dataplane::{Dataplane, Settings};
use nix::sys::utsname::uname;

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
    check(&budget, PROGRAM, dataplane.program().unwrap());
    check(&budget, DETOUR_PROGRAM, dataplane.detour_program().unwrap());
}

#[test]
fn the_verifier_accepts_the_program_that_ends_tunnels() {
    let rules = DecapRules {
        tunnels: vec![Forwarder::Ipip, Forwarder::Gue, Forwarder::Fou, Forwarder::Gre],
        gue_ports: vec![6080],
        fou_ports: vec![5555],
        from: Vec::new(),
    };
    let decap = Decap::load(&rules).unwrap();
    check(&Budget::load().unwrap(), decap::PROGRAM, decap.program().unwrap());
}

/// Says how many instructions the verifier walked through, in a line of its own that `cargo xtask kernels` reads.
fn check(budget: &Budget, name: &str, program: &Xdp) {
    let release = uname().unwrap().release().to_string_lossy().into_owned();
    let span = budget.verified(name, &release).unwrap();
    let info = program.info().unwrap();
    let verified = info.verified_instruction_count().expect("Linux 5.16 tells this");
    println!("\nverified {name}: {verified}");
    assert!(
        span.holds(verified),
        "the verifier of Linux {release} walked through {verified} instructions of `{name}`, the budget is {} to {}: make it \
         simpler, or change the budget in tests/budget.toml and say why",
        span.0,
        span.1
    );
}
