//! The project's own commands, `cargo xtask <command>`.
//!
//! What must hold: a fresh machine needs no other command than the one asked for. Whatever that one needs is set up
//! first, or named together with the command that sets it up.

mod apt;
mod bench;
mod build;
mod cargo;
mod demo;
mod fuzz;
mod kernels;
mod linker;
mod machine;
mod privilege;
mod run;
mod setup;
mod sim;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cargo::{Profile, Workspace};

/// The project's own commands.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    /// Find a toolchain that builds eBPF programs, and install what is missing
    Setup {
        /// Only report what is there and what is missing
        #[arg(long)]
        check: bool,
    },
    /// Build the binary `lb`
    Build {
        /// Optimise it
        #[arg(long)]
        release: bool,
    },
    /// Build `lb` (release) and start the agent with privilege: `cargo xtask run -- --iface eth0`
    Run {
        /// What follows `lb run`; see `cargo xtask run -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Balance real traffic in a lab of network namespaces, and show how a backend's failure is handled
    Demo {
        /// What follows `lb-demo`, such as --json, --forwarder ipip, --family 6; see `cargo xtask demo -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measure what a packet costs, against the least that forwarding can cost
    Bench {
        /// What follows `lb-bench`, such as --quick, --json, --case tcp4; see `cargo xtask bench -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Send generated packets through the program, its host build and a model of its own, and compare
    Fuzz {
        /// What follows `lb-fuzz`, such as --packets 10000000, --json, --seed 7; see `cargo xtask fuzz -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Simulate a million flows while backends come and go, and count those that break
    Sim {
        /// What follows `lb-sim`, such as --quick, --json, --seed 7; see `cargo xtask sim -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Boot the distribution's kernels under QEMU, and try programs, rows, forwarders and devices on each
    Kernels {
        #[command(flatten)]
        options: kernels::Options,
    },
    /// Run every check and test: formatting, clippy, host tests, tests in the kernel and in network namespaces
    Test {
        /// Run only the tests whose name contains this, and neither formatting nor clippy
        filter: Option<String>,
    },
    /// Try what the tests and the demo ask of the machine (run with privilege)
    #[command(name = machine::COMMAND, hide = true)]
    TryMachine,
}

fn main() -> ExitCode {
    match dispatch(Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    if let Command::TryMachine = command {
        machine::try_here()?;
        return Ok(ExitCode::SUCCESS);
    }
    let workspace = Workspace::find()?;
    match command {
        Command::Setup { check: true } => return Ok(setup::check(&workspace)),
        Command::Setup { check: false } => setup::setup(&workspace)?,
        Command::Build { release: false } => build::build(&workspace, Profile::Dev)?,
        Command::Build { release: true } => build::build(&workspace, Profile::Release)?,
        Command::Run { arguments } => run::run(&workspace, &arguments)?,
        Command::Demo { arguments } => demo::demo(&workspace, &arguments)?,
        Command::Bench { arguments } => bench::bench(&workspace, &arguments)?,
        Command::Fuzz { arguments } => fuzz::fuzz(&workspace, &arguments)?,
        Command::Sim { arguments } => sim::sim(&workspace, &arguments)?,
        Command::Kernels { options } => return kernels::kernels(&workspace, &options),
        Command::Test { filter } => return test::test(&workspace, filter.as_deref()),
        Command::TryMachine => {}
    }
    Ok(ExitCode::SUCCESS)
}
