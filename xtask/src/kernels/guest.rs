//! One boot: what the guest runs, and what it says of it on its serial line.
//!
//! What must hold: a guest that hangs ends at a limit, and a suite that did not end has failed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::unistd::geteuid;

use super::archive::Kernel;
use super::tools::Tools;

/// The guest's first process.
pub(super) const INIT: &str = include_str!("init.sh");
/// What precedes the guest's words about suites.
const MARK: &str = "@@ ";
/// How much slower than this machine a guest may be.
const PATIENCE: u32 = 10;
const MEMORY_MIB: u32 = 2048;
/// Network cards of a guest with [`Suite::cards`]: the MAC addresses by which `tests/tests/netns/devices/virtio.rs` finds them,
/// and pairs of queues. Two CPUs use two pairs, and XDP wants another two.
const CARDS: [(&str, u32); 2] = [("02:00:00:00:00:04", 4), ("02:00:00:00:00:01", 1)];
/// Puts the cards' other ends on a bridge, in a network namespace of their own, and becomes QEMU.
const WIRE: &str = r#"ip link add wire type bridge
ip link set wire up
ip tuntap add mode tap name card0 multi_queue
ip tuntap add mode tap name card1
for card in card0 card1; do ip link set $card master wire; ip link set $card up; done
exec "$@""#;
/// How much of a failed suite's output is shown.
const SHOWN: usize = 60;

/// Tests that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    /// Its column in the table.
    pub(super) name: &'static str,
    /// What the guest runs.
    command: &'static str,
    /// Seconds after which it is ended.
    limit: u32,
    /// Whether it wants the network cards.
    cards: bool,
}

const PROGRAMS: Suite = Suite {
    name: "loads",
    command: "budget --nocapture",
    limit: 120,
    cards: false,
};

impl Suite {
    /// All of them, in the order of the table.
    pub(super) const ALL: &[Self] = &[
        PROGRAMS,
        Self {
            name: "rows",
            command: "rows worlds_hold_in_the_kernel world_hold_in_the_kernel",
            limit: 600,
            cards: false,
        },
        Self {
            name: "e2e",
            command: "netns --test-threads=1 forwarders:: persistence::takeover persistence::upgrade",
            limit: 3600,
            cards: false,
        },
        Self {
            name: "devices",
            command: "netns --test-threads=1 --include-ignored devices::",
            limit: 3600,
            cards: true,
        },
    ];
    /// The suite of that name.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        let known = || {
            Self::ALL
                .iter()
                .map(|suite| suite.name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let found = Self::ALL.iter().find(|suite| suite.name == name);
        found
            .copied()
            .ok_or_else(|| format!("expected one of {}", known()))
    }

    /// What is worth every run of the tests.
    pub(super) const QUICK: &[Self] = &[
        PROGRAMS,
        Self {
            name: "rows",
            command: "rows rows_of_the_full_world",
            limit: 300,
            cards: false,
        },
    ];
}

/// What became of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SuiteResult {
    pub(super) passed: u32,
    pub(super) failed: Vec<String>,
    /// The exit code was 0.
    pub(super) ended_well: bool,
    /// Instructions that the verifier walked through, by program.
    pub(super) instructions: Vec<(String, u32)>,
    output: Vec<String>,
}

impl SuiteResult {
    /// Whether it ran and nothing failed.
    pub(super) fn is_good(&self) -> bool {
        self.ended_well && self.failed.is_empty() && self.passed > 0
    }

    fn read(&mut self, line: &str) {
        if let Some(test) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed.push(test.to_owned());
            eprintln!("    {test}: FAILED");
        } else if let Some(test) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... ok"))
        {
            eprintln!("    {test}");
        } else if line.starts_with("test result: ") {
            let passed = line
                .split_whitespace()
                .zip(line.split_whitespace().skip(1))
                .find(|(_, word)| word.starts_with("passed"));
            self.passed += passed.and_then(|(number, _)| number.parse().ok()).unwrap_or(0);
        } else if let Some((program, count)) = line
            .strip_prefix("verified ")
            .and_then(|rest| rest.split_once(": "))
        {
            self.instructions
                .extend(count.parse().ok().map(|count| (program.to_owned(), count)));
        }
        self.output.push(line.to_owned());
    }
}

/// The file that tells [`INIT`] what to run: a name, a limit in seconds and a command in each line.
pub(super) fn script(suites: &[Suite]) -> String {
    let mut lines = format!("{PATIENCE}\n");
    for Suite {
        name, command, limit, ..
    } in suites
    {
        lines += &format!("{name} {limit} {command}\n");
    }
    lines
}

/// Boots `kernel` and returns what became of each suite.
///
/// # Errors
/// When the guest does not begin the first suite.
pub(super) fn run(
    kernel: &Kernel,
    initrd: &Path,
    suites: &[Suite],
    tools: &Tools,
) -> Result<Vec<SuiteResult>> {
    let mut child = qemu(kernel, initrd, suites, tools)?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run QEMU")?;
    let serial = BufReader::new(
        child
            .stdout
            .take()
            .context("the guest's serial line cannot be read")?,
    );
    let mut reader = Reader::new(&kernel.release, suites);
    let mut before = Vec::new();
    for line in serial.split(b'\n') {
        let line = line.context("the guest's serial line cannot be read")?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if !reader.read(&line) {
            before.push(line);
        }
    }
    child.wait().context("cannot wait for QEMU")?;
    if !reader.began {
        let last = before[before.len().saturating_sub(SHOWN)..].join("\n");
        bail!(
            "{} does not boot under QEMU; it last said:\n{last}",
            kernel.release
        );
    }
    Ok(reader.results)
}

/// The command that boots the guest, and ends it when all limits are over.
fn qemu(kernel: &Kernel, initrd: &Path, suites: &[Suite], tools: &Tools) -> Result<Command> {
    let cards = suites.iter().any(|suite| suite.cards);
    let mut command = Command::new("timeout");
    tools.with_libraries(&mut command);
    command.arg((60 + suites.iter().map(|suite| suite.limit).sum::<u32>()).to_string());
    if cards {
        command.args(["unshare", "--net"]);
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["sh", "-ec", WIRE, "sh"]);
    }
    command.arg(tools.path("qemu-system-x86_64")?);
    command.args([
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
    ]);
    command.args(["-m", &MEMORY_MIB.to_string(), "-nographic", "-no-reboot"]);
    command.args([
        "-monitor",
        "none",
        "-serial",
        "stdio",
        "-device",
        "virtio-rng-pci",
    ]);
    if cards {
        for (number, (mac, pairs)) in CARDS.iter().enumerate() {
            let end = format!("tap,id=card{number},ifname=card{number},script=no,downscript=no");
            let card = format!("virtio-net-pci,netdev=card{number},mac={mac},romfile=");
            let (end, card) = if *pairs > 1 {
                // An interrupt for each queue, one for the configuration and one for commands.
                let vectors = 2 * pairs + 2;
                (
                    format!("{end},queues={pairs}"),
                    format!("{card},mq=on,vectors={vectors}"),
                )
            } else {
                (end, card)
            };
            command.args(["-netdev", &end, "-device", &card]);
        }
    } else {
        command.args(["-nic", "none"]);
    }
    command
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initrd);
    command.args([
        "-append",
        "console=ttyS0 quiet loglevel=1 panic=1 mitigations=off net.ifnames=0",
    ]);
    Ok(command)
}

/// Follows the serial line.
struct Reader<'s> {
    /// The kernel's release, which precedes what is printed: several guests may run.
    release: &'s str,
    suites: &'s [Suite],
    results: Vec<SuiteResult>,
    /// The suite that runs.
    at: Option<usize>,
    since: Instant,
    began: bool,
}

impl<'s> Reader<'s> {
    fn new(release: &'s str, suites: &'s [Suite]) -> Self {
        Self {
            release,
            suites,
            results: vec![SuiteResult::default(); suites.len()],
            at: None,
            since: Instant::now(),
            began: false,
        }
    }

    /// Whether the line belongs to a suite.
    fn read(&mut self, line: &str) -> bool {
        if let Some(words) = line.strip_prefix(MARK) {
            let words: Vec<&str> = words.split_whitespace().collect();
            match words[..] {
                ["begin", name] => {
                    self.at = self.suites.iter().position(|suite| suite.name == name);
                    self.since = Instant::now();
                    self.began = true;
                    eprintln!("  {}: {name} …", self.release);
                }
                ["end", _, code] => self.end(code),
                _ => {}
            }
            return true;
        }
        match self.at {
            Some(at) => self.results[at].read(line),
            None => return false,
        }
        true
    }

    fn end(&mut self, code: &str) {
        let Some(at) = self.at.take() else { return };
        let (suite, result) = (self.suites[at], &mut self.results[at]);
        result.ended_well = code == "0";
        let seconds = self.since.elapsed().as_secs();
        if result.is_good() {
            eprintln!(
                "  {}: {}: {} passed ({seconds} s)",
                self.release, suite.name, result.passed
            );
        } else {
            let shown = result.output.len().saturating_sub(SHOWN);
            eprintln!("{}", result.output[shown..].join("\n"));
            eprintln!(
                "  {}: {}: FAILED with {code} ({seconds} s): {}",
                self.release,
                suite.name,
                result.failed.join(", ")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Vec<SuiteResult> {
        let mut reader = Reader::new("6.1", Suite::QUICK);
        for line in lines {
            reader.read(line);
        }
        reader.results
    }

    #[test]
    fn a_suite_is_good_if_it_ended_well_and_something_passed() {
        let results = read(&[
            "@@ begin loads",
            "verified lb: 15162",
            "test the_programs ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 2.1s",
            "@@ end loads 0",
            "@@ begin rows",
            "test a::b ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2s",
            "@@ end rows 101",
        ]);
        assert!(results[0].is_good() && !results[1].is_good());
        assert_eq!(results[0].instructions, [("lb".to_owned(), 15162)]);
        assert_eq!(results[1].failed, ["a::b"]);
    }

    #[test]
    fn a_suite_without_a_test_or_without_an_end_is_not_good() {
        let nothing = [
            "@@ begin loads",
            "test result: ok. 0 passed; 0 failed; 0 ignored",
            "@@ end loads 0",
        ];
        assert!(!read(&nothing)[0].is_good());
        assert!(!read(&["@@ begin loads", "test result: ok. 3 passed; 0 failed"])[0].is_good());
        assert!(!read(&[])[0].is_good());
    }
}
