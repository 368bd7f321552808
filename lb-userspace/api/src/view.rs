//! What the API answers; the CLI reads the same types.
//!
//! Invariant: within `/v1` fields are added, never renamed, retyped or removed.

use std::{fmt, net::IpAddr, num::NonZeroU16, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{checkpoint::SavingView, quic::QuicView};
use lb_check::Check;
use lb_core::desired::{
    Affinity, BackendId, Forwarder, Fragments, MssClamp, OnEmpty, Prefix, Protocol, Scheduler, ServerId,
    ServiceName, ServicePort, Source, Span, TrackingPolicy, TtlExpired, Unserved, Vlan, Zone,
};
pub use lb_core::plan::BackendState;

/// Something that is asked for and not done now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutageView {
    /// What fails.
    pub what: String,
    /// What follows from that, and why it fails.
    pub reason: String,
    /// Since when, in seconds since 1970-01-01 UTC.
    pub since: f64,
}

/// All services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicesView {
    /// The generation they were read at.
    pub generation: u64,
    /// What keeps packets from being balanced, whatever the states of backends are.
    #[serde(default)]
    pub outages: Vec<OutageView>,
    /// By name.
    pub services: Vec<ServiceView>,
}

/// One service and its current state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// The addresses that clients use.
    pub vips: Vec<Prefix>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port or ports that clients use.
    pub port: ServicePort,
    /// How packets reach the backends that say nothing else.
    pub forwarder: Forwarder,
    /// The UDP port that its tunnels end at, where the operator named one.
    #[serde(default)]
    pub tunnel_port: Option<NonZeroU16>,
    /// How new flows are spread.
    pub scheduler: Scheduler,
    /// What of a packet decides its backend.
    pub affinity: Affinity,
    /// What happens while no backend is usable.
    pub on_empty: OnEmpty,
    /// What happens to packets that are for one of its VIPs and for no service of it.
    #[serde(default)]
    pub unserved: Unserved,
    /// What happens to packets that must not be forwarded any further.
    #[serde(default)]
    pub ttl_expired: TtlExpired,
    /// What becomes of the segment sizes in its SYNs.
    #[serde(default)]
    pub mss_clamp: MssClamp,
    /// How fragments find their backend.
    #[serde(default)]
    pub fragments: Fragments,
    /// Who may use it; absent: everybody.
    #[serde(default)]
    pub source: Option<Source>,
    /// How QUIC packets are routed by connection ID; absent: they are not.
    #[serde(default)]
    pub quic: Option<QuicView>,
    /// Which flows are written down, so that they keep their backend.
    pub tracking: TrackingPolicy,
    /// How long after a slot's last change its silent flows still belong to the previous owner.
    pub window: Span,
    /// How long a flow may be silent before it is forgotten.
    pub idle: Span,
    /// When a drain ends at the latest.
    pub drain_deadline: Span,
    /// How its backends are checked, where the operator said so.
    pub check: Option<Check>,
    /// The size of its slot table now.
    pub slots: u32,
    /// Packets sent to its backends.
    pub packets: u64,
    /// Bytes of these packets as they arrived, from the IP header on.
    pub bytes: u64,
    /// New flows (TCP SYNs) among these packets.
    pub flows: u64,
    /// The hosts that serve it.
    pub backends: Vec<BackendView>,
}

/// One backend of a service and its current state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendView {
    /// The host's address.
    pub address: IpAddr,
    /// The port that it listens on, where that is not the service's.
    pub port: Option<NonZeroU16>,
    /// Its wanted part of the new flows.
    pub weight: u16,
    /// Its state.
    pub state: BackendState,
    /// The label that it shares with others.
    #[serde(default)]
    pub zone: Option<Zone>,
    /// How packets reach it where that is not the service's way.
    #[serde(default)]
    pub forwarder: Option<Forwarder>,
    /// The VLAN tags of packets toward it, where the operator named them.
    #[serde(default)]
    pub vlan: Option<Vlan>,
    /// What names it in QUIC connection IDs.
    #[serde(default)]
    pub server_id: Option<ServerId>,
    /// Progress of the drain, while the backend drains.
    #[serde(default)]
    pub drain: Option<DrainView>,
    /// Why it is in that state, where there is more to say.
    pub reason: Option<String>,
    /// Since when, in seconds since 1970-01-01 UTC.
    pub since: f64,
    /// The fraction of the service's slots that it holds now, 0 to 1.
    pub share: f64,
    /// Packets sent to it for this service.
    pub packets: u64,
    /// Bytes of these packets as they arrived, from the IP header on.
    pub bytes: u64,
    /// New flows (TCP SYNs) among these packets.
    pub flows: u64,
    /// Packets a second, over the last few seconds.
    pub packets_per_second: f64,
    /// Bits a second, over the last few seconds.
    pub bits_per_second: f64,
    /// New flows a second, over the last few seconds.
    pub flows_per_second: f64,
}

/// Progress of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainView {
    /// Whether the backend goes when it is over; else it is in maintenance then.
    pub leaving: bool,
    /// Its flows in the flow table when they were counted last; a flow gets there with its first packet after the
    /// drain's begin.
    pub flows: Option<u64>,
    /// How long no packet has come to or from it.
    pub silent_seconds: f64,
    /// Time until it is over if none comes any more.
    pub over_in_seconds: f64,
    /// Time until its deadline.
    pub ends_in_seconds: f64,
}

/// All drains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainsView {
    /// The generation they were read at.
    pub generation: u64,
    /// Drains under way, by service.
    pub drains: Vec<DrainingView>,
    /// Drains that ended of late, the last one last.
    pub ended: Vec<EndedView>,
}

/// One drain under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainingView {
    /// The service.
    pub service: ServiceName,
    /// Its backend that drains.
    pub backend: BackendId,
    /// The backend's zone.
    pub zone: Option<Zone>,
    /// Progress of the drain.
    #[serde(flatten)]
    pub drain: DrainView,
}

/// One drain that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedView {
    /// The service.
    pub service: ServiceName,
    /// Its backend that has drained.
    pub backend: BackendId,
    /// The backend's zone.
    pub zone: Option<Zone>,
    /// Whether the backend is gone; else it is in maintenance.
    pub leaving: bool,
    /// Why it is over.
    pub end: DrainEnd,
    /// Its flows when they were counted last; at the deadline they were cut.
    pub flows: Option<u64>,
    /// The generation that its end made.
    pub generation: u64,
}

/// Why a drain is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainEnd {
    /// None of its flows is in the flow table, and no packet has come for the window.
    NoFlows,
    /// No packet has come for the idle time.
    Silent,
    /// It was to end by now.
    Deadline,
    /// The backend's check is bad: its flows are dead.
    Down,
}

impl fmt::Display for DrainEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoFlows => "no flows are left",
            Self::Silent => "it has been silent for the idle time",
            Self::Deadline => "its deadline has passed",
            Self::Down => "it is down",
        })
    }
}

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

/// All counters of the dataplane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsView {
    /// The generation they were read at.
    pub generation: u64,
    /// One line for each way out of the dataplane.
    pub reasons: Vec<ReasonView>,
    /// One line for each service.
    pub services: Vec<ServiceStats>,
    /// Their sum.
    pub totals: Totals,
}

/// How often packets left the dataplane in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonView {
    /// Its number, the same for ever.
    pub code: u32,
    /// Its name.
    pub name: String,
    /// What is done with such a packet: `pass`, `drop`, `tx` or `redirect`.
    pub action: String,
    /// A sentence about it.
    pub meaning: String,
    /// How many packets.
    pub packets: u64,
}

/// The counters of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStats {
    /// Its name.
    pub name: String,
    /// Packets sent to its backends.
    pub packets: u64,
    /// Bytes of these packets as they arrived, from the IP header on.
    pub bytes: u64,
    /// New flows (TCP SYNs) among these packets.
    pub flows: u64,
    /// Flow table.
    pub tracking: TrackingView,
    /// QUIC connection IDs.
    pub connection_ids: ConnectionIdsView,
}

/// What became of a service's packets that needed the flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackingView {
    /// Packets whose flow was there.
    pub hits: u64,
    /// New flows that were written down.
    pub inserted: u64,
    /// Established flows that were written down for the backend that they had.
    pub adopted: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Flows that were not written down for want of room, or because too many were new; they stay with the backend
    /// that owned their slot before.
    pub refused: u64,
}

/// What QUIC connection IDs said of where packets go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionIdsView {
    /// Packets whose connection ID named their backend.
    pub routed: u64,
    /// Packets whose connection ID named none, so that they were placed as any other.
    pub unroutable: u64,
}

/// The counters of all services together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Packets sent to backends.
    pub packets: u64,
    /// Bytes of these packets as they arrived, from the IP header on.
    pub bytes: u64,
    /// New flows (TCP SYNs) among these packets.
    pub flows: u64,
}

/// What the dataplane would do with a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// `pass`, `drop`, `tx` or `redirect`.
    pub action: String,
    /// The name of the way out.
    pub reason: String,
    /// Its number.
    pub reason_code: u32,
    /// A sentence about it.
    pub meaning: String,
    /// The service that the frame is for.
    pub service: Option<String>,
    /// The backend that it goes to.
    pub backend: Option<String>,
    /// The slot that chose the backend.
    pub slot: Option<u32>,
    /// How the backend was found: `slot`, `known`, `opened`, `adopted`, `current`, `previous` or `refused`.
    pub placement: String,
    /// A sentence about it.
    pub placement_meaning: String,
    /// The interface that it would arrive on.
    pub interface: String,
    /// What keeps packets from being balanced that arrive elsewhere.
    #[serde(default)]
    pub outages: Vec<OutageView>,
    /// The frame that was asked about, in hexadecimal.
    pub in_hex: String,
    /// The frame as it would leave, in hexadecimal.
    pub out_hex: Option<String>,
}
