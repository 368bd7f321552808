//! `cargo xtask kernels`: programs, rows, forwarders and devices on the distribution's kernels, under QEMU.
//!
//! What must hold: nothing is said of a kernel that did not run. The host's kernel and packages stay as they are, but for
//! the tools that are named and installed first.

mod archive;
mod guest;
mod image;
mod record;
mod report;
mod tools;

use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::Result;
use clap::Args;

use crate::cargo::{Profile, Workspace};
use crate::setup;
use crate::test::PRIVILEGED;
use archive::{Archive, Kernel};
use guest::Suite;
use record::Record;
use report::{KernelReport, Report};
use tools::Tools;

/// The oldest series that the programs are known to load on. What is older lacks atomic operations of BPF (5.12), or was
/// not to be had.
const OLDEST: &str = "6.1";
/// The series that are tried beside the oldest and the newest.
const BETWEEN: [&str; 3] = ["6.12", "6.18", "7.2"];

/// What to try, and where.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this series, such as 6.12; may be repeated. Default: those of docs/kernel-support.md and the newest
    #[arg(long, value_name = "SERIES")]
    kernel: Vec<String>,
    /// Only this suite: loads, rows, e2e or devices; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "quick", value_parser = Suite::find)]
    suite: Vec<Suite>,
    /// The oldest and the newest kernel only, and there the programs and the rows
    #[arg(long)]
    quick: bool,
    /// Print the result as JSON, in the last line
    #[arg(long)]
    json: bool,
    /// Keep the result in tests/kernels.json, and in the table of docs/kernel-support.md; other kernels' stay
    #[arg(long, conflicts_with = "quick")]
    record: bool,
}

impl Options {
    /// What `cargo xtask test` runs.
    const QUICK: Self = Self {
        kernel: Vec::new(),
        suite: Vec::new(),
        quick: true,
        json: false,
        record: false,
    };
}

/// Runs the suites on each kernel, prints a table, and fails when anything failed.
pub(crate) fn kernels(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let tools = Tools::ensure(&directory(workspace))?;
    let kernels = find(workspace, options, &tools)?;
    let suites = match (options.quick, &options.suite[..]) {
        (true, _) => Suite::QUICK,
        (false, []) => Suite::ALL,
        (false, asked) => asked,
    };
    let record = options.record.then(|| Record::of(&workspace.root));
    let keep = |kernel: &KernelReport| record.as_ref().map_or(Ok(()), |record| record.keep(kernel));
    let report = run(workspace, &kernels, suites, &tools, keep)?;
    println!("\n{}", report.table());
    if options.json {
        println!("{}", report.json());
    }
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What became of the quick suites.
pub(crate) enum Quick {
    /// They ran: whether all went well.
    Ran(bool),
    /// There is no QEMU or no kernel to be had here, and why.
    Missing(String),
}

/// Runs the quick suites on the oldest and the newest kernel.
///
/// # Errors
/// When the tests do not build, or a kernel does not boot.
pub(crate) fn quick(workspace: &Workspace) -> Result<Quick> {
    let found = Tools::ensure(&directory(workspace))
        .and_then(|tools| Ok((find(workspace, &Options::QUICK, &tools)?, tools)));
    let (kernels, tools) = match found {
        Ok(found) => found,
        Err(error) => return Ok(Quick::Missing(format!("{error:#}"))),
    };
    let report = run(workspace, &kernels, Suite::QUICK, &tools, |_| Ok(()))?;
    println!("\n{}", report.table());
    Ok(Quick::Ran(report.is_good()))
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target.join("kernels")
}

/// The kernels to try, downloaded.
fn find(workspace: &Workspace, options: &Options, tools: &Tools) -> Result<Vec<Kernel>> {
    let archive = Archive::open(&directory(workspace))?;
    let newest = archive.newest_series()?;
    let mut series: Vec<String> = match (&options.kernel[..], options.quick) {
        ([], true) => vec![OLDEST.to_owned()],
        ([], false) => [OLDEST].iter().chain(&BETWEEN).map(ToString::to_string).collect(),
        (asked, _) => asked.to_vec(),
    };
    if options.kernel.is_empty() && !series.contains(&newest) {
        series.push(newest);
    }
    series
        .iter()
        .map(|series| archive.kernel(series, tools))
        .collect()
}

/// Tries all of them; `done` is told of each as it is over.
fn run(
    workspace: &Workspace,
    kernels: &[Kernel],
    suites: &[Suite],
    tools: &Tools,
    done: impl Fn(&KernelReport) -> Result<()>,
) -> Result<Report> {
    // Short runs do without a build of their own.
    let profile = if suites == Suite::QUICK {
        Profile::Dev
    } else {
        Profile::Guest
    };
    let payload = Payload::build(workspace, profile)?;
    let base = image::base(&directory(workspace), &payload, suites, tools)?;
    // A short run is one test at a time, which keeps one CPU busy.
    let side_by_side = if suites == Suite::QUICK { kernels.len() } else { 1 };
    let mut reports = Vec::new();
    for kernels in kernels.chunks(side_by_side.max(1)) {
        for report in boot(kernels, &base, suites, tools)? {
            done(&report)?;
            reports.push(report);
        }
    }
    Ok(Report { kernels: reports })
}

/// Boots these kernels side by side and waits until all have ended.
fn boot(kernels: &[Kernel], base: &Path, suites: &[Suite], tools: &Tools) -> Result<Vec<KernelReport>> {
    let mut guests = Vec::new();
    for kernel in kernels {
        guests.push((kernel, image::with_modules(base, kernel, tools)?));
    }
    thread::scope(|scope| {
        let boot = |(kernel, initrd): (&Kernel, PathBuf)| {
            eprintln!("{} boots …", kernel.release);
            let results = guest::run(kernel, &initrd, suites, tools)?;
            Ok(KernelReport::new(&kernel.release, suites, results))
        };
        let running: Vec<_> = guests
            .into_iter()
            .map(|guest| scope.spawn(move || boot(guest)))
            .collect();
        let ended = running.into_iter().map(|guest| {
            let report = guest.join();
            report.unwrap_or_else(|panic| panic::resume_unwind(panic))
        });
        ended.collect()
    })
}

/// What runs in a guest.
struct Payload {
    binaries: Vec<(&'static str, PathBuf)>,
    /// Where tests look for the rows that the fuzzer kept.
    rows_saved: PathBuf,
}

impl Payload {
    fn build(workspace: &Workspace, profile: Profile) -> Result<Self> {
        setup::ensure(workspace)?;
        let programs = ["lb", "lb-lab-node"];
        let built = workspace.build(&["lb-userspace", "lb-lab"], &programs, profile)?;
        let tests = ["budget", "rows", "netns"];
        let built_tests = workspace.build_tests(&PRIVILEGED, &tests, profile)?;
        let mut binaries = Vec::new();
        for name in programs {
            binaries.push((name, built.path(name)?.to_owned()));
        }
        for name in tests {
            binaries.push((name, built_tests.path(name)?.to_owned()));
        }
        Ok(Self {
            binaries,
            rows_saved: workspace.root.join("tests/fuzz/rows-saved"),
        })
    }
}
