//! What every verb that changes something takes.

use clap::Args;

/// Options of verbs that change something.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct WriteOptions {
    /// Refuse (exit code 4) unless this is the generation in force; `lb list` and every change show it.
    #[arg(long, value_name = "N")]
    pub(super) if_generation: Option<u64>,
}
