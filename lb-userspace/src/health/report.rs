//! What a heartbeat is called and what it says: its key, its verdicts, its standing.
//!
//! Invariant: equal targets are one heartbeat; [`Target::new`] brings every spelling of the same question to one form.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::{Check, Kind, State};

/// One heartbeat: a check at an address. Services that share both share it, so a failed host leaves all at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    address: SocketAddr,
    check: Check,
}

impl Target {
    /// The heartbeat that `check` asks of the backend at `backend` (port 0: it has none), or `None` where it asks
    /// nothing. The check must be valid.
    pub fn new(backend: SocketAddr, check: &Check) -> Option<Self> {
        let mut address = backend;
        match check.kind {
            Kind::None => return None,
            Kind::Ping => address.set_port(0),
            Kind::Tcp | Kind::Http(_) => address.set_port(check.port.unwrap_or(backend.port())),
        }
        Some(Self {
            address,
            check: Check {
                port: None,
                ..check.clone()
            },
        })
    }

    /// Where it asks; port 0 for a ping.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether both ask the same of the same address, however often: what is known of one holds for the other.
    pub fn asks_what(&self, other: &Self) -> bool {
        self.address == other.address && self.check.kind == other.check.kind
    }

    /// What it asks, without a port of its own: the address holds it.
    pub fn check(&self) -> &Check {
        &self.check
    }
}

/// What is believed of a target before its first check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belief {
    /// [`State::Up`] or [`State::Down`].
    pub state: State,
    /// The heartbeat that asked the same until now: its results in a row count on.
    pub after: Option<Target>,
}

/// What is believed of targets that nothing was asked of yet.
pub type Beliefs = HashMap<Target, Belief>;

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whose.
    pub target: Target,
    /// [`State::Up`] or [`State::Down`].
    pub state: State,
    /// Why it went down, in the operator's words; none when it came up.
    pub reason: Option<String>,
    /// When.
    pub at: SystemTime,
    /// How long the deciding check took.
    pub latency: Duration,
}

/// How a heartbeat stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What is believed.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// The last failed check; kept after recovery.
    pub last_failure: Option<FailureReport>,
    /// How long the last successful check took.
    pub latency: Option<Duration>,
    /// Results so far.
    pub checks: u64,
}

/// A failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureReport {
    /// Why, in the operator's words.
    pub reason: String,
    /// When.
    pub at: SystemTime,
}
