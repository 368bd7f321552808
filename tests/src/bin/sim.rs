//! `lb-sim`: see [`lb_tests::sim`].

use std::process::ExitCode;

use clap::Parser;
use lb_tests::sim;

fn main() -> ExitCode {
    sim::run(&sim::Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
