//! The fuzzer at work: all agree, what was once judged differently is agreed upon, and mistakes would be noticed.
//!
//! Needs root; fails without it.
use std::path::Path;

use anyhow::Result;

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
fn kernel_host_and_model_agree_on_a_hundred_thousand_packets() -> Result<()> {
    let summary = fuzz::run(&options(100_000), None)?;
    assert_eq!(summary.disagreements, 0, "kept: {:#?}", summary.kept);
    Ok(())
}

#[test]
fn what_was_judged_differently_once_is_agreed_upon() -> Result<()> {
    let wrong = fuzz::replay(Path::new(DIRECTORY))?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_model_with_a_rule_broken_is_contradicted() -> Result<()> {
    for mistake in Mistake::ALL {
        let summary = fuzz::run(&options(20_000), Some(mistake))?;
        assert!(summary.disagreements > 0, "nobody noticed {mistake:?}");
    }
    Ok(())
}
