//! `lb-sim`: see [`lb_sim`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    lb_sim::run(&lb_sim::Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
