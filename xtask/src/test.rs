//! `cargo xtask test`: every check and every test, and a last line that sums them up.
//!
//! What must hold: any failure makes the exit code non-zero, and what was skipped is counted with its reason. Tests
//! that need root live in a few packages, and only the test binaries of those are run with privilege.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::cargo::{Profile, Workspace};
use crate::kernels::{self, Quick};
use crate::machine;
use crate::privilege::Privilege;
use crate::setup;

/// The packages with tests that need root: those in namespaces and of the kernel, and those of the agent's netlink and
/// health checks.
pub(crate) const PRIVILEGED: [&str; 5] = ["lb-bench", "lb-check", "lb-lab", "lb-tests", "lb-userspace"];

/// Tell the tests in network namespaces where the binary `lb` is, and that of the lab's servers.
const LB_BIN: &str = "LB_BIN";
const LB_LAB_NODE: &str = "LB_LAB_NODE";

/// What tests take from the environment of the one who started them, and nothing else.
const TESTS_PRESERVED: &str = "--preserve-env=LB_BIN,LB_LAB_NODE,LB_TEST_PATIENCE,CARGO_MANIFEST_DIR,CI,RUST_LOG,RUST_BACKTRACE,NO_COLOR,TERM";

/// How many tests that mostly wait occupy a CPU. Tests that load the machine take turns among themselves.
const WAITING_TESTS_PER_CPU: usize = 3;

/// How one step ended.
enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed => f.write_str("FAILED"),
            Self::Skipped(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

/// How many tests ended how, over all test binaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs everything, or the tests whose name contains `filter`; the exit code tells whether all went well.
pub(crate) fn test(workspace: &Workspace, filter: Option<&str>) -> Result<ExitCode> {
    let privilege = Privilege::find()?;
    machine::check(privilege)?;
    setup::ensure(workspace)?;
    let binaries = ["lb", "lb-lab-node"];
    let built = workspace.build(&["lb-userspace", "lb-lab"], &binaries, Profile::Dev)?;

    let mut steps = Vec::new();
    if filter.is_none() {
        steps.push(("formatting", formatting(workspace)?));
        steps.push(("clippy", clippy(workspace)?));
        steps.push(("documentation of the code", documentation(workspace)?));
    }
    let mut tally = Tally::default();
    let mut tests = workspace.cargo("test");
    tests.arg("--workspace");
    for package in PRIVILEGED {
        tests.args(["--exclude", package]);
    }
    steps.push((
        "tests on the host",
        run_tests(&mut tests, filter, None, &mut tally)?,
    ));

    let mut tests = workspace.cargo("test");
    for package in PRIVILEGED {
        tests.args(["--package", package]);
    }
    tests
        .env(LB_BIN, built.path("lb")?)
        .env(LB_LAB_NODE, built.path("lb-lab-node")?);
    if privilege == Privilege::Sudo {
        tests.args([
            "--config",
            &format!(r#"target."cfg(all())".runner = ["sudo", "{TESTS_PRESERVED}"]"#),
        ]);
    }
    steps.push((
        "tests in the kernel and in namespaces",
        run_tests(&mut tests, filter, Some(threads()), &mut tally)?,
    ));
    if filter.is_none() {
        steps.push((
            "programs and rows on the oldest and the newest kernel",
            other_kernels(workspace)?,
        ));
    }
    if tally.passed + tally.failed == 0 {
        bail!(
            "no test ran{}",
            filter
                .map(|filter| format!(": none has `{filter}` in its name"))
                .unwrap_or_default()
        );
    }
    Ok(sum_up(&steps, tally))
}

fn sum_up(steps: &[(&str, Outcome)], tally: Tally) -> ExitCode {
    println!();
    for (name, outcome) in steps {
        println!("{name}: {outcome}");
    }
    let Tally {
        passed,
        failed,
        ignored,
    } = tally;
    let failed_steps = steps
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed))
        .count();
    let skipped_steps = steps
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Skipped(_)))
        .count();
    println!(
        "cargo xtask test: {passed} tests passed, {failed} failed, {ignored} skipped; \
         {failed_steps} of {} steps failed, {skipped_steps} skipped",
        steps.len()
    );
    if failed == 0 && failed_steps == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Boots other kernels, where they can be booted.
fn other_kernels(workspace: &Workspace) -> Result<Outcome> {
    println!("\n=> cargo xtask kernels --quick");
    Ok(match kernels::quick(workspace)? {
        Quick::Ran(success) => outcome(success),
        Quick::Missing(reason) => {
            println!("skipped: {reason}");
            Outcome::Skipped(reason)
        }
    })
}

fn formatting(workspace: &Workspace) -> Result<Outcome> {
    let mut cargo = workspace.cargo("fmt");
    cargo.args(["--all", "--check", "--"]);
    // The list of schedulers declares these modules by a macro, which rustfmt does not look into.
    let schedulers = workspace.root.join("lb-userspace/core/src/schedule");
    for entry in schedulers.read_dir().context("reading the schedulers' folder")? {
        let module = entry?.path().join("mod.rs");
        if module.is_file() {
            cargo.arg(module);
        }
    }
    run_tool(workspace, "fmt", "rustfmt", &mut cargo)
}

fn clippy(workspace: &Workspace) -> Result<Outcome> {
    let mut cargo = workspace.cargo("clippy");
    cargo.args([
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]);
    run_tool(workspace, "clippy", "clippy", &mut cargo)
}

/// Has every link of the code's documentation lead somewhere, that of private items included.
fn documentation(workspace: &Workspace) -> Result<Outcome> {
    let mut cargo = workspace.cargo("doc");
    cargo
        .args(["--locked", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "--deny warnings");
    announce(&cargo);
    Ok(outcome(cargo.status().context("cannot run cargo")?.success()))
}

/// Runs `command`, which needs the optional part `component` of the Rust distribution.
fn run_tool(
    workspace: &Workspace,
    subcommand: &str,
    component: &str,
    command: &mut Command,
) -> Result<Outcome> {
    announce(command);
    let mut version = workspace.cargo(subcommand);
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !version.status().context("cannot run cargo")?.success() {
        let reason = format!("{component} is not installed (with rustup: rustup component add {component})");
        println!("skipped: {reason}");
        return Ok(Outcome::Skipped(reason));
    }
    Ok(outcome(command.status().context("cannot run cargo")?.success()))
}

/// How many tests run side by side in a binary of tests that mostly wait: for health checks, drains and the kernel.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get) * WAITING_TESTS_PER_CPU
}

/// Runs a `cargo test`, passes its output on, and adds what the test binaries report to `tally`. Without `threads`, as
/// many tests run side by side as there are CPUs.
fn run_tests(
    command: &mut Command,
    filter: Option<&str>,
    threads: Option<usize>,
    tally: &mut Tally,
) -> Result<Outcome> {
    command.args(["--locked", "--no-fail-fast"]).args(filter);
    if let Some(threads) = threads {
        command.args(["--", "--test-threads", &threads.to_string()]);
    }
    announce(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let output = child.stdout.take().context("the tests' output is not readable")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("the tests' output is not readable")?;
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(&line)
            .and_then(|()| stdout.write_all(b"\n"))
            .context("cannot print")?;
        tally.add(&String::from_utf8_lossy(&line));
    }
    Ok(outcome(child.wait().context("cannot wait for cargo")?.success()))
}

fn outcome(success: bool) -> Outcome {
    if success { Outcome::Passed } else { Outcome::Failed }
}

fn announce(command: &Command) {
    let arguments: Vec<_> = command
        .get_args()
        .map(|argument| argument.to_string_lossy())
        .collect();
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    println!("\n=> {} {}", program.display(), arguments.join(" "));
}

impl Tally {
    /// Adds what a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...` counts.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else {
                continue;
            };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_adds_up_over_test_binaries() {
        let mut tally = Tally::default();
        tally.add("running 4 tests");
        tally.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        tally.add("test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.2s");
        assert_eq!(
            tally,
            Tally {
                passed: 5,
                failed: 5,
                ignored: 1
            }
        );
    }
}
