//! `lb-bench`: what a packet costs, against the least that forwarding it can cost.
//!
//! What must hold: a figure is given only for work that was done. Every case tells what must become of its frames, and
//! fails unless the wrapper and the balancer's own counters have seen that happen to each of them.

mod case;
mod cpu;
mod frame;
mod measure;
mod options;
mod report;
mod subject;
mod wire;
mod wish;
mod wrapper;

use std::process::ExitCode;

use anyhow::{Result, ensure};

pub use options::Options;

use measure::Rounds;
use report::Report;
use subject::Subject;
use wire::Wire;

/// Runs the bench.
///
/// Exit code 0: every case was measured; 1: one failed.
///
/// # Errors
/// When something that all cases need is missing.
pub fn run(options: &Options) -> Result<ExitCode> {
    let wire = Wire::new()?;
    wire.inside(|| measure(options, &wire))?
}

fn measure(options: &Options, wire: &Wire) -> Result<ExitCode> {
    cpu::pin(options.cpu)?;
    let cases = options.select(case::all(options)?)?;
    let machine = cpu::Machine::here(options.cpu)?;
    let rounds = Rounds::new(options);
    let mut subjects = Vec::new();
    for case in &cases {
        subjects.push(Subject::load(case, options.peer.as_deref(), wire.interface)?);
    }
    ensure!(!subjects.is_empty(), "no case to measure");
    rounds.run(&mut subjects)?;
    let report = Report::new(&machine, &rounds, &subjects);
    if options.json {
        eprint!("{report}");
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
