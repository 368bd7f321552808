//! The fuzzer at work: all agree, what was once judged differently is agreed upon, and mistakes would be noticed.
//!
//! Needs root; fails without it.
#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test's own steps is a failure of the test"
)]

use std::path::Path;

use lb_tests::fuzz::{self, DIRECTORY, Mistake, Options};

fn options(packets: u64) -> Options {
    Options {
        packets,
        seed: 1,
        json: false,
        keep: None,
    }
}

#[test]
fn kernel_host_and_model_agree_on_a_hundred_thousand_packets() {
    let summary = fuzz::run(&options(100_000), None).unwrap();
    assert_eq!(summary.disagreements, 0, "kept: {:#?}", summary.kept);
}

#[test]
fn what_was_judged_differently_once_is_agreed_upon() {
    let wrong = fuzz::replay(Path::new(DIRECTORY)).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_model_with_a_rule_broken_is_contradicted() {
    for mistake in Mistake::ALL {
        let summary = fuzz::run(&options(20_000), Some(mistake)).unwrap();
        assert!(summary.disagreements > 0, "nobody noticed {mistake:?}");
    }
}
