//! `lb-bench`: what a packet costs, against the least that forwarding it can cost.
//!
//! What must hold: a figure is given only for work that was done. Every case tells what must become of its frames, and
//! fails unless the wrapper and the balancer's own counters have seen that happen to each of them.

mod agent;
mod budget;
mod case;
mod cpu;
mod frame;
mod inserts;
mod live;
mod measure;
mod options;
mod plot;
mod process;
mod report;
mod scenario;
mod stream;
mod subject;
mod wire;
mod wrapper;

use std::process::ExitCode;

use anyhow::Result;

pub use budget::Budget;
pub use options::Options;
pub use stream::{Segments, Stream};

use measure::Rounds;
use report::Report;
use subject::Subject;
use wire::Wire;

/// Runs the bench.
///
/// Exit code 0: every case was measured, and with `--check` within its budget; 1: one was not.
///
/// # Errors
/// When something that all cases need is missing.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Options {
        plot: Some(plot),
        from: Some(from),
        ..
    } = options
    {
        plot::draw(plot::earlier(from)?, plot)?;
        return Ok(ExitCode::SUCCESS);
    }
    let wire = Wire::new()?;
    wire.inside(|| measure(options, &wire))?
}

fn measure(options: &Options, wire: &Wire) -> Result<ExitCode> {
    cpu::pin(options.cpu)?;
    let machine = cpu::Machine::here(options.cpu)?;
    let rounds = Rounds::new(options);
    let peer = options.peer.as_deref();
    let all = case::all(options)?;
    let report = if options.live {
        let lanes = live::run(&all, peer, &rounds, wire)?;
        Report::of_lanes(machine, rounds, lanes)
    } else if options.inserts {
        let figures = inserts::run(options, machine.cpus, wire.interface)?;
        Report::of_agent(machine, rounds, figures)
    } else if options.agent {
        let mut figures = agent::run(options, wire.interface)?;
        figures.extend(process::run(options, &options.lb()?)?);
        Report::of_agent(machine, rounds, figures)
    } else {
        let cases = options.select(all)?;
        let subjects = cases.iter().map(|case| Subject::load(case, peer, wire.interface));
        let mut subjects = subjects.collect::<Result<Vec<_>>>()?;
        rounds.run(&mut subjects)?;
        Report::of_cases(machine, rounds, &subjects)
    };
    if options.json {
        eprint!("{report}");
    } else {
        print!("{report}");
    }
    let complaints = if options.check {
        report.complaints(&Budget::load()?)
    } else {
        Vec::new()
    };
    for complaint in &complaints {
        eprintln!("over budget: {complaint}");
    }
    if let Some(path) = &options.plot {
        plot::draw(report.json(), path)?;
    }
    if options.json {
        println!("{}", report.json());
    }
    Ok(if report.is_good() && complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
