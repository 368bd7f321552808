//! `lb-demo`: see [`lb_demo`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    lb_demo::run(&lb_demo::Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
