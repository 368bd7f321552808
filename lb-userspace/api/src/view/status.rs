//! The agent itself: what it runs on, and how its end is asked for.

use std::{fmt, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::services::OutageView;
use crate::checkpoint::SavingView;

/// The state of the agent and its dataplane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The version of the agent.
    pub version: String,
    /// The version of the layout of its maps.
    pub abi_version: u32,
    /// Its process.
    pub pid: u32,
    /// How long it has been running.
    pub uptime_seconds: f64,
    /// The generation of the desired state in force.
    pub generation: u64,
    /// The configuration file, where there is one.
    pub config: Option<PathBuf>,
    /// Whether this agent made the dataplane or took it over.
    pub origin: DataplaneOrigin,
    /// Where the dataplane is pinned; absent when it ends with the agent.
    pub pin_dir: Option<PathBuf>,
    /// Where the program is attached.
    pub interfaces: Vec<InterfaceView>,
    /// How many services there are.
    pub services: u64,
    /// How many backends they have in all.
    pub backends: u64,
    /// How many of these are up.
    pub backends_up: u64,
    /// Targets in use; one is one backend of one service.
    pub targets_used: u64,
    /// Targets that the dataplane was sized for.
    pub targets_capacity: u64,
    /// Slots in use, over all services.
    pub slots_used: u64,
    /// Slots that the dataplane was sized for.
    pub slots_capacity: u64,
    /// Flows that were in the flow table when it was swept last.
    pub flows_tracked: u64,
    /// Flows that fit there.
    pub flows_capacity: u64,
    /// What `fullnat` backends see flows come from.
    #[serde(default)]
    pub fullnat_sources: Vec<SourceView>,
    /// Flows through `fullnat` that fit.
    #[serde(default)]
    pub nat_flows_capacity: u64,
    /// Slots, over all services, whose owner changed of late, so that their flows are looked up.
    pub slots_unsafe: u64,
    /// What the last sweep of the flow table took, in microseconds.
    pub last_sweep_us: u64,
    /// Kernel memory of each map.
    pub map_bytes: Vec<MapView>,
    /// What the last write took, in microseconds.
    pub last_apply_us: u64,
    /// The seed of the flow hash, as `0x` and 16 hexadecimal digits.
    pub hash_seed: String,
    /// How saving checkpoints goes.
    #[serde(default)]
    pub checkpoint: SavingView,
    /// Whether the services are others than the configuration file had when it was last read.
    #[serde(default)]
    pub drift: bool,
    /// What is asked for and not done now; usually nothing.
    #[serde(default)]
    pub outages: Vec<OutageView>,
    /// What the operator should know, in sentences.
    pub warnings: Vec<String>,
}

/// An address that `fullnat` backends see flows come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// The address.
    pub address: IpAddr,
    /// Flows from it when the table was swept last.
    pub flows: u64,
    /// Ports of it in use toward the backend that has the most such flows.
    pub used: u64,
    /// Ports that there are toward each backend.
    pub total: u64,
}

/// One interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// How the program is attached.
    pub mode: AttachMode,
    /// Its driver, where the kernel names one.
    pub driver: Option<String>,
    /// The kernel's id of the program.
    pub program_id: u32,
    /// The kernel's id of the link that runs it there.
    pub link_id: u32,
}

/// How an XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// In the driver, before the kernel makes a socket buffer.
    Native,
    /// In the kernel's stack, slower, with any driver.
    Generic,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// Where a dataplane comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataplaneOrigin {
    /// This agent made it.
    New,
    /// An earlier agent left it behind, and this one took it over.
    Adopted,
}

/// What `POST /v1/stop` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Whether the dataplane is to end, too.
    #[serde(default)]
    pub detach: bool,
}

/// How the agent ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopView {
    /// The agent's process; absent when there was none.
    pub pid: Option<u32>,
    /// Whether packets are still balanced without it.
    pub forwarding: bool,
    /// Where the dataplane is pinned; absent when it goes with the agent.
    pub pin_dir: Option<PathBuf>,
    /// The interfaces that it goes on serving.
    pub interfaces: Vec<String>,
    /// What was detached and removed, in words.
    pub removed: Vec<String>,
    /// What is in the directory, but not of lb.
    pub left: Vec<String>,
}

/// The kernel memory of one map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapView {
    /// Its name.
    pub map: String,
    /// Its memory.
    pub bytes: u64,
}
