//! `lb-bench`: see [`lb_bench`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    lb_bench::run(&lb_bench::Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
