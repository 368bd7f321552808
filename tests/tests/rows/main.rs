//! Packet cases: each runs on the host build of the pipeline and in the kernel, and both must do what the row says.
//!
//! The kernel's part needs root (network namespaces, XDP); it fails without it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failure of the test's own steps is a failure of the test"
)]

mod answers;
mod bystanders;
mod chains;
mod clamp;
mod decap;
mod errors;
mod extensions;
mod flows;
mod forward;
mod fragments;
mod fullnat;
mod host;
mod hosts;
mod icmp;
mod kernel;
mod malformed;
mod mutations;
mod nat;
mod options;
mod quic;
mod ranges;
mod routes;
mod row;
mod sctp;
mod service_set;
mod sources;
mod tracking;
mod translated;
mod tunnels;
mod unserved;
mod uppers;
mod verdict;
mod vlan;

use std::collections::HashSet;

use anyhow::{Result, ensure};
use lb_api::packet::MIN_FRAME;
use lb_common::abi::Reason;
use lb_packets::Buffer;
use lb_world::expected_action;

use host::{Host, INTERFACES};
use kernel::{Kernel, Loaded};
use row::Row;
use service_set::ServiceSet;

fn all() -> Vec<Row> {
    [
        forward::rows(),
        nat::rows(),
        fullnat::rows(),
        tunnels::rows(),
        ranges::rows(),
        sources::rows(),
        uppers::rows(),
        quic::rows(),
        icmp::rows(),
        bystanders::rows(),
        hosts::rows(),
        malformed::rows(),
        vlan::rows(),
        extensions::rows(),
        fragments::rows(),
        sctp::rows(),
        errors::rows(),
        answers::rows(),
        unserved::rows(),
        clamp::rows(),
        translated::rows(),
    ]
    .concat()
}

fn of(services: ServiceSet) -> impl Iterator<Item = Row> {
    all().into_iter().filter(move |row| row.services == services)
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
    for services in ServiceSet::ALL {
        let mut host = Host::new(services, INTERFACES);
        for row in of(services) {
            for frame in &row.before {
                host.run(frame);
            }
            if let Err(error) = host.run(&row.input).check(&row, &host.layout) {
                wrong.push(format!("{}: {error:#}", row.name));
            }
        }
    }
    report(&wrong);
}

/// The kernel leaves room in front of every frame, so these packets run on the host only.
#[test]
fn without_headroom_tunnels_drop_and_leave_the_packet_alone() {
    let rows = [forward::rows(), nat::rows(), tunnels::rows()].concat();
    for services in [ServiceSet::Full, ServiceSet::Tunnels] {
        let mut host = Host::new(services, INTERFACES);
        for row in rows.iter().filter(|row| row.services == services) {
            needs_headroom(&mut host, row);
        }
    }
}

fn needs_headroom(host: &mut Host, row: &Row) {
    let needed = match row.reason {
        Reason::TooBigAnswered | Reason::TtlAnswered if row.input[12] == 0x08 => 28,
        Reason::TooBigAnswered | Reason::TtlAnswered => 48,
        _ => row.output.len() - row.input.len(),
    };
    let verdict = host.run_buffer(Buffer::with_headroom(&row.input, needed));
    assert_eq!(verdict.frame, row.output, "{}, just enough room", row.name);
    if needed > 0 {
        let verdict = host.run_buffer(Buffer::with_headroom(&row.input, needed - 1));
        assert_eq!(verdict.reason, Reason::NoHeadroom, "{}", row.name);
        assert_eq!(verdict.frame, row.input, "{}, too little room", row.name);
    }
}

#[test]
fn rows_of_the_full_world_hold_in_the_kernel() {
    check_worlds_in_the_kernel(&[ServiceSet::Full]);
}

#[test]
fn rows_of_all_other_worlds_hold_in_the_kernel() {
    let [ServiceSet::Full, others @ ..] = &ServiceSet::ALL else {
        panic!("the full world is the first")
    };
    check_worlds_in_the_kernel(others);
}

/// Also checks that host and kernel agree, that a packet moves exactly one counter, and that explaining moves none.
fn check_worlds_in_the_kernel(sets: &[ServiceSet]) {
    let kernel = Kernel::new().unwrap();
    let mut wrong = Vec::new();
    for &services in sets {
        let mut host = Host::new(services, kernel.interfaces);
        let checked = kernel.with_loaded(services, |loaded| {
            for row in of(services).filter(|row| row.input.len() >= MIN_FRAME) {
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
    for frame in &row.before {
        loaded.run(frame)?;
        host.run(frame);
    }
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
