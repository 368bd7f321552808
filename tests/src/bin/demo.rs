//! `lb-demo`: see [`lb_tests::demo`].

use std::process::ExitCode;

use clap::Parser;
use lb_tests::demo;

fn main() -> ExitCode {
    demo::run(&demo::Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
