//! Counters.

use serde::{Deserialize, Serialize};

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
