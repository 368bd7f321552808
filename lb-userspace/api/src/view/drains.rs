//! Drains under way, and those that ended of late.

use std::fmt;

use serde::{Deserialize, Serialize};

use lb_core::desired::{BackendId, ServiceName, Zone};

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
