//! The command line of `lb-fuzz`.

use std::path::PathBuf;

use clap::Parser;

/// Send generated packets through the program in the kernel, its host build and a model of its own, and compare what
/// becomes of them. Needs root.
#[derive(Clone, Debug, Parser)]
#[command(name = "lb-fuzz", version)]
pub struct Options {
    /// How many packets at least.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub packets: u64,
    /// Runs with the same seed send the same packets.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// End with one line of JSON; the table goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// Where packets are kept that were judged differently [default: the repository's tests/fuzz/rows-saved].
    #[arg(long, value_name = "DIRECTORY")]
    pub keep: Option<PathBuf>,
}
