//! `lb-fuzz`: see [`lb_tests::fuzz`].

use std::process::ExitCode;

use clap::Parser;
use lb_tests::fuzz;

fn main() -> ExitCode {
    fuzz::main(&fuzz::Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
