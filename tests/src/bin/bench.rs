//! `lb-bench`: see [`lb_tests::bench`].

use std::process::ExitCode;

use clap::Parser;
use lb_tests::bench;

fn main() -> ExitCode {
    bench::run(&bench::Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
