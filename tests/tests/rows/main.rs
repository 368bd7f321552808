//! Packet cases: each runs on the host build of the pipeline and in the kernel, and both must do what the row says.
//!
//! The kernel's part needs root (network namespaces, XDP); it fails without it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failure of the test's own steps is a failure of the test"
)]

mod bystanders;
mod forward;
mod host;
mod icmp;
mod kernel;
mod malformed;
mod nat;
mod routes;
mod row;
mod verdict;
mod world;

use std::collections::HashSet;

use anyhow::{Result, ensure};
use lb_userspace::dataplane::MIN_FRAME;

use host::{Host, INTERFACES};
use kernel::{Kernel, Loaded, expected_action};
use row::Row;
use world::World;

fn all() -> Vec<Row> {
    [
        forward::rows(),
        nat::rows(),
        icmp::rows(),
        bystanders::rows(),
        malformed::rows(),
    ]
    .concat()
}

fn of(world: World) -> impl Iterator<Item = Row> {
    all().into_iter().filter(move |row| row.world == world)
}

/// Fails with everything that went wrong, by row.
fn report(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} rows went wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn names_are_unique() {
    let mut seen = HashSet::new();
    for row in all() {
        assert!(
            seen.insert(row.name.clone()),
            "two rows are called {:?}",
            row.name
        );
    }
}

#[test]
fn rows_hold_on_the_host() {
    let mut wrong = Vec::new();
    for world in World::ALL {
        let mut host = Host::new(world, INTERFACES);
        for row in of(world) {
            if let Err(error) = host.run(&row.input).check(&row, &host.layout) {
                wrong.push(format!("{}: {error:#}", row.name));
            }
        }
    }
    report(&wrong);
}

/// Also checks that host and kernel agree, that a packet moves exactly one counter, and that explaining moves none.
#[test]
fn rows_hold_in_the_kernel() {
    let kernel = Kernel::new().unwrap();
    let mut wrong = Vec::new();
    for world in World::ALL {
        let mut host = Host::new(world, kernel.interfaces);
        let checked = kernel.with_loaded(world, |loaded| {
            for row in of(world).filter(|row| row.input.len() >= MIN_FRAME) {
                if let Err(error) = check_in_the_kernel(&row, loaded, &mut host) {
                    wrong.push(format!("{}: {error:#}", row.name));
                }
            }
            Ok(())
        });
        checked.unwrap();
    }
    report(&wrong);
}

fn check_in_the_kernel(row: &Row, loaded: &Loaded, host: &mut Host) -> Result<()> {
    let before = loaded.counters()?;
    let verdict = loaded.explain(&row.input)?;
    verdict.check(row, &loaded.layout)?;
    let on_host = host.run(&row.input);
    ensure!(
        verdict == on_host,
        "the kernel says {verdict:?}, the host {on_host:?}"
    );
    let action = loaded.run(&row.input)?;
    let expected = expected_action(row.reason, row.redirected);
    ensure!(
        action == expected,
        "unexplained, the action is {action}, not {expected}"
    );
    let counted = loaded.counters()?;
    ensure!(
        counted == before.after(row, &verdict)?,
        "counted wrongly: {counted:?}"
    );
    Ok(())
}
