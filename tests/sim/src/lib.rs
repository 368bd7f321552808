//! The simulation: do flows keep their backends while these come and go?
//!
//! What must hold: the packet path, the planner and the tables are the real ones; only time, clients and hosts are
//! simulated. Who owns a flow is known from where its first packet went, and asked of nobody.

mod balancer;
mod frame;
mod hosts;
mod kinds;
mod operator;
mod options;
mod report;
mod rivals;
mod run;
mod services;
mod tally;
#[cfg(test)]
mod tests;
mod turn;
mod wheel;
mod workload;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;

pub use options::Options;

use report::{Row, Sums};
use run::Run;

/// Runs what was asked for and prints it; the exit code tells whether a flow was broken.
///
/// # Errors
/// When the planner refuses what is asked of it, or nothing can be printed.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut rows = Vec::new();
    for scenario in options.scenarios() {
        let started = Instant::now();
        let tally = Run::new(scenario)?.run(|tally| {
            eprintln!(
                "{} {}: {} of {} changes, {} flows, {} packets, {} breaks",
                scenario.name,
                scenario.seed,
                tally.all_changes(),
                scenario.changes,
                tally.flows,
                tally.packets,
                tally.breaks
            );
        })?;
        rows.push(Row {
            scenario,
            tally,
            took: started.elapsed(),
        });
    }
    let sums = Sums::of(&rows, options.seed);
    if options.json {
        eprint!("{}", report::table(&rows));
        println!("{}", serde_json::to_string(&sums)?);
    } else {
        print!("{}", report::table(&rows));
    }
    Ok(if sums.breaks == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
