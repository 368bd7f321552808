//! The command line of `lb-bench`.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use anyhow::{Result, bail};
use clap::Parser;
use lb_lab::find_binary;

use super::case::{Case, FLOOR};

/// Measure what a packet costs in the balancer, against the least that forwarding can cost.
#[derive(Debug, Parser)]
#[command(name = "lb-bench", version)]
pub struct Options {
    /// Fewer frames: done in under 30 seconds, and less exact.
    #[arg(long)]
    quick: bool,
    /// Rounds; each measures every case once.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: u32,
    /// Frames of a case in a round [default: 5000000, with --quick 1000000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    repeat: Option<u32>,
    /// Measure only cases whose name contains this (`*` stands for anything), and the floor. May be given repeatedly.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// End with one line of JSON; the table goes to standard error.
    #[arg(long)]
    pub(super) json: bool,
    /// Also plot what a packet costs over the number of flows, as an SVG file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["live", "agent"])]
    pub(super) plot: Option<PathBuf>,
    /// Measure nothing; plot what an earlier bench gave with --json.
    #[arg(long, value_name = "FILE", requires = "plot")]
    pub(super) from: Option<PathBuf>,
    /// Fail when a case costs more than tests/budget.toml allows.
    #[arg(long, conflicts_with = "live")]
    pub(super) check: bool,
    /// Instead of the cases, send live frames over a veth pair and count what arrives.
    #[arg(long, conflicts_with_all = ["cases", "agent"])]
    pub(super) live: bool,
    /// Instead of the cases, measure the agent: failures, slot tables, health checks, start, memory, changes.
    #[arg(long, conflicts_with_all = ["cases", "check"])]
    pub(super) agent: bool,
    /// Instead of the cases, write flows down on one CPU and on two at once.
    #[arg(long, conflicts_with_all = ["cases", "check", "live", "agent", "plot"])]
    pub(super) inserts: bool,
    /// The lb binary for --agent [default: what LB_BIN names, or the one beside this program].
    #[arg(long, value_name = "PATH")]
    lb: Option<PathBuf>,
    /// The CPU to run on.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..1024))]
    pub(super) cpu: u32,
    /// Another XDP program, pinned in a BPF file system, to measure on the same frames.
    #[arg(long, value_name = "PIN")]
    pub(super) peer: Option<PathBuf>,
    /// The IPv4 address of the service; further services have the addresses after it.
    #[arg(long, default_value = "10.200.1.2", value_name = "ADDRESS")]
    pub(super) vip: Ipv4Addr,
    /// The IPv6 address of the service; further services have the addresses after it.
    #[arg(long, default_value = "fd00:200::1:2", value_name = "ADDRESS")]
    pub(super) vip6: Ipv6Addr,
    /// The port of the service.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: u16,
    /// The first client's address; 16,384 flows come from each, one a port.
    #[arg(long, default_value = "192.168.0.1", value_name = "ADDRESS")]
    pub(super) client: Ipv4Addr,
    /// The first IPv6 client's address; 16,384 flows come from each, one a port.
    #[arg(long, default_value = "fd00:192::1", value_name = "ADDRESS")]
    pub(super) client6: Ipv6Addr,
    /// The first port of a client's flows.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..=49152))]
    pub(super) client_port: u16,
}

impl Options {
    /// Frames of a case in a round.
    pub(super) fn repeat(&self) -> u32 {
        self.repeat
            .unwrap_or(if self.quick { 1_000_000 } else { 5_000_000 })
    }

    /// The binary `lb`.
    pub(super) fn lb(&self) -> Result<PathBuf> {
        match &self.lb {
            Some(path) => Ok(path.clone()),
            None => find_binary("lb", "LB_BIN"),
        }
    }

    /// The cases asked for; the floor is always among them.
    pub(super) fn select(&self, all: Vec<Case>) -> Result<Vec<Case>> {
        if self.cases.is_empty() {
            return Ok(all);
        }
        for pattern in &self.cases {
            if !all.iter().any(|case| matches(pattern, case.name)) {
                let names: Vec<&str> = all.iter().map(|case| case.name).collect();
                bail!(
                    "no case has {pattern:?} in its name; there are: {}",
                    names.join(" ")
                );
            }
        }
        let asked_for = |case: &Case| self.cases.iter().any(|pattern| matches(pattern, case.name));
        Ok(all
            .into_iter()
            .filter(|case| case.name == FLOOR || asked_for(case))
            .collect())
    }
}

/// Whether `name` contains `pattern`, in which each `*` stands for any run of characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = name;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_anywhere_and_in_order() {
        assert!(matches("ipip", "tcp4-ipip-1m"));
        assert!(matches("tcp4*1m", "tcp4-ipip-1m"));
        assert!(!matches("1m*tcp4", "tcp4-ipip-1m"));
        assert!(!matches("udp", "tcp4-ipip"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Options::command().debug_assert();
    }
}
