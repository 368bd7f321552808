//! What one health check asks, and where.
//!
//! Invariant: [`ProbeTarget::new`] brings every spelling of the same question to one form, so that equal targets are
//! one health check.

use std::net::SocketAddr;

use crate::Check;
use crate::kind::Asks;

/// One health check: a check at an address. Services that share both share it, so a failed host leaves all at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProbeTarget {
    address: SocketAddr,
    check: Check,
}

impl ProbeTarget {
    /// The health check that `check` asks of the backend at `backend` (port 0: it has none), or `None` where it asks
    /// nothing. The check must be valid.
    pub fn new(backend: SocketAddr, check: &Check) -> Option<Self> {
        let mut address = backend;
        match check.kind.info().asks {
            Asks::Nobody => return None,
            Asks::Host(_) => address.set_port(0),
            Asks::Port => address.set_port(check.port.unwrap_or(backend.port())),
        }
        Some(Self {
            address,
            check: Check {
                port: None,
                ..check.clone()
            },
        })
    }

    /// Where it asks; port 0 where it asks the host.
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
