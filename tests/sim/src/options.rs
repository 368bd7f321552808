//! The command line of `lb-sim`.

use std::time::Duration;

use clap::Parser;

use super::{kinds, run::Scenario, services};

/// Simulate clients of the real packet path and planner while backends come and go, and count broken flows.
#[derive(Debug, Parser)]
#[command(name = "lb-sim", version)]
pub struct Options {
    /// One seed instead of three, and fewer flows in the ordinary day: done in under a minute.
    #[arg(long)]
    quick: bool,
    /// The first seed; runs with the same seed do the same.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How many seeds, from the first on [default: 3, with --quick 1].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: Option<u64>,
    /// Flows of a run with overlapping changes.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=50_000_000))]
    flows: u64,
    /// Changes of a run with overlapping changes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    changes: u64,
    /// End with one line of JSON; the table goes to standard error.
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    /// Flows and changes of an ordinary day, with --quick and without.
    const ORDINARY: [(u64, u64); 2] = [(300_000, 30), (1_000_000, 60)];

    /// What is to be run.
    pub(super) fn scenarios(&self) -> Vec<Scenario> {
        let seeds = self.seeds.unwrap_or(if self.quick { 1 } else { 3 });
        let seeds = (0..seeds).map(|i| self.seed.wrapping_add(i));
        let (flows, changes) = Self::ORDINARY[usize::from(!self.quick)];
        let overlapping = Scenario {
            name: "overlapping",
            plots: services::MANY,
            mix: kinds::ALL,
            seed: self.seed,
            flows: self.flows,
            changes: self.changes,
            entries: 1 << 20,
            pace: Duration::from_secs(3),
            overlaps: true,
        };
        let ordinary = Scenario {
            name: Scenario::ORDINARY,
            plots: services::ONE,
            mix: kinds::ORDINARY,
            seed: self.seed,
            flows,
            changes,
            entries: 1 << 20,
            pace: Duration::from_secs(60),
            overlaps: false,
        };
        seeds
            .flat_map(|seed| [overlapping, ordinary].map(|scenario| Scenario { seed, ..scenario }))
            .collect()
    }
}
