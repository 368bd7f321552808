//! The fuzzer at work: all agree, what was once judged differently is agreed upon, and what is
//! broken, on any of the three sides, is noticed.
//!
//! Needs root; fails without it.
use std::path::Path;

use anyhow::{Context, Result};

use lb_fuzz::{self, Broken, DIRECTORY, Flaw, Mistake, Options};

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
    let summary = lb_fuzz::run(&options(100_000), Broken::NOTHING)?;
    assert_eq!(summary.disagreements, 0, "kept: {:#?}", summary.kept);
    Ok(())
}

#[test]
fn what_was_judged_differently_once_is_agreed_upon() -> Result<()> {
    let wrong = lb_fuzz::replay(Path::new(DIRECTORY))?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The first disagreement where something is broken.
fn notice(broken: Broken) -> Result<String> {
    let summary = lb_fuzz::run(&options(40_000), broken)?;
    let first = summary.kept.into_iter().next();
    first.with_context(|| format!("nobody noticed {broken:?}"))
}

#[test]
fn a_model_with_a_rule_broken_is_contradicted() -> Result<()> {
    for mistake in Mistake::ALL {
        notice(Broken {
            model: Some(mistake),
            ..Broken::NOTHING
        })?;
    }
    Ok(())
}

#[test]
fn a_dataplane_that_is_wrong_on_both_sides_is_contradicted_by_the_model() -> Result<()> {
    for flaw in Flaw::ALL {
        let message = notice(Broken {
            kernel: Some(flaw),
            host: Some(flaw),
            ..Broken::NOTHING
        })?;
        assert!(
            !message.contains("the kernel and the host"),
            "{flaw:?}: {message}"
        );
    }
    Ok(())
}

#[test]
fn a_kernel_or_a_host_that_is_wrong_alone_is_contradicted_by_the_other() -> Result<()> {
    let flaw = Some(Flaw::NextHop);
    for (kernel, host) in [(flaw, None), (None, flaw)] {
        let message = notice(Broken {
            kernel,
            host,
            model: None,
        })?;
        assert!(message.contains("the kernel and the host differ"), "{message}");
    }
    Ok(())
}
