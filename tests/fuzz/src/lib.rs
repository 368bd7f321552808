//! The fuzzer: generated and damaged packets, and three opinions about what becomes of them.
//!
//! What must hold: the program in the kernel, its host build and the [`model`], which knows neither, agree on reason,
//! backend, interface and every byte of every packet. A seed names a run: the same packets in the same order.

mod case;
mod compare;
mod flaw;
mod generate;
mod machine;
pub mod model;
mod options;
mod run;
mod saved;
mod world;

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use anyhow::Result;
use lb_common::abi::Reason;
use serde::Serialize;

pub use flaw::{Broken, Flaw};
pub use machine::Kernel;
pub use model::Mistake;
pub use options::Options;
pub use run::{Summary, run};
pub use saved::DIRECTORY;

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    packets: u64,
    seed: u64,
    disagreements: u64,
    by_reason: BTreeMap<&'a str, u64>,
}

/// Runs what was asked for and prints it; the exit code tells whether all agreed.
///
/// # Errors
/// Without privilege, or when the kernel refuses the program.
pub fn main(options: &Options) -> Result<ExitCode> {
    let summary = run(options, Broken::NOTHING)?;
    let by_reason: BTreeMap<&str, u64> = Reason::ALL
        .iter()
        .map(|reason| (reason.name(), summary.by_reason[*reason as usize]))
        .collect();
    let mut table = String::new();
    for reason in Reason::ALL {
        table += &format!("{:>12}  {}\n", summary.by_reason[*reason as usize], reason.name());
    }
    table += &format!("{:>12}  disagreements\n", summary.disagreements);
    if options.json {
        eprint!("{table}");
        let line = Line {
            packets: summary.packets,
            seed: options.seed,
            disagreements: summary.disagreements,
            by_reason,
        };
        println!("{}", serde_json::to_string(&line)?);
    } else {
        print!("{table}");
    }
    Ok(if summary.disagreements == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Tries the rows kept in `directory` again; what is wrong with each.
///
/// # Errors
/// Without privilege, or when the kernel refuses the program.
pub fn replay(directory: &Path) -> Result<Vec<String>> {
    let kernel = Kernel::new()?;
    let world = world::world(kernel.interfaces)?;
    kernel.within(|| saved::replay(directory, &world))
}
