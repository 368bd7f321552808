//! `lb-fuzz`: see [`lb_fuzz`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    lb_fuzz::main(&lb_fuzz::Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
