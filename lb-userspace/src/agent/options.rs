//! What an agent is started with: the options of `lb run`.
//!
//! Invariant: they hold what was typed; whether it can be done is the agent's to find out.

use std::path::PathBuf;

use crate::config::HashSeed;
use crate::dataplane::{self, Mode};
use crate::netlink::interface_name;

/// Where checkpoints are kept unless told otherwise.
pub const STATE_DIR: &str = "/var/lib/lb";

const EXAMPLES: &str = "\
Without --config the agent starts empty and is filled with `lb service add`. Changes made at run time are kept in
checkpoints and outlive a restart, until a --config file that has changed since replaces them.
SIGHUP reads the configuration again; SIGTERM ends the agent, and packets are balanced on without it: see `lb stop`.
RUST_LOG sets what is logged (RUST_LOG=debug).

Examples:
  lb run --iface eth0 --config /etc/lb/lb.toml
  lb run --iface eth0,eth1 --mode auto";

/// What the agent is started with.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The interfaces that clients' packets arrive on.
    #[arg(
        long = "iface",
        required = true,
        num_args = 1..,
        value_delimiter = ',',
        value_name = "IFACE",
        value_parser = interface_name
    )]
    pub interfaces: Vec<String>,
    /// Whether to start without an interface that is not there (yet), and attach to it when it comes.
    #[arg(
        long,
        value_name = "true|false",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub wait_iface: bool,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to attach to the interfaces.
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// Where to listen; comes from the option of all verbs.
    #[arg(skip)]
    pub socket: PathBuf,
    /// Where the agent keeps its checkpoints, from which it goes on after a restart.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    /// Where the dataplane is pinned, on a BPF file system: it goes on without the agent, and the next one takes over.
    #[arg(long, value_name = "DIR", default_value = dataplane::PIN_DIR)]
    pub pin_dir: PathBuf,
    /// Pin nothing: the dataplane ends with the agent, however that ends. For trials and machines without a BPF file
    /// system.
    #[arg(long, conflicts_with = "pin_dir")]
    pub ephemeral: bool,
    /// The seed of the flow hash, 64 bits; balancers that are to agree need the same. Overrides the configuration.
    #[arg(long, value_name = "HEX", value_parser = HashSeed::typed)]
    pub hash_seed: Option<HashSeed>,
    /// Let the dataplane log each packet; slow, for debugging only.
    #[arg(long)]
    pub debug_dataplane: bool,
}
