//! Sizes of the dataplane's tables, and what is said when a desired state does not fit them.

use lb_common::abi::{FLOWS_PER_LINE, MAX_SOURCES, SLOTS_PER_LINE};
use serde::{Deserialize, Serialize};

use super::service_table::TableError;
use crate::desired::ServiceName;

/// Sizes of the dataplane's tables, fixed when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Services that fit.
    pub services: u32,
    /// Targets (backends of services) that fit.
    pub targets: u32,
    /// Slots of all tables together.
    pub slots: u32,
    /// Entries of the flow table; a power of two of at least 8.
    pub flows: u32,
    /// Flows through `fullnat`.
    #[serde(default)]
    pub nat_flows: u32,
}

impl Capacity {
    /// log2 of the lines that service keys hash to; room for VIPs and nat answers beside the services themselves.
    pub fn service_bits(&self) -> u32 {
        (self.services.max(16) * 4).next_power_of_two().ilog2()
    }

    /// Lines of each service table: two halves, each as many again for chains.
    pub fn service_lines(&self) -> u32 {
        4 << self.service_bits()
    }

    /// Numbers that pools are known by: two for each service, whose families `nat` keeps apart, and some that rest.
    /// The highest of 16 bits stands for VIPs.
    pub fn numbers(&self) -> u32 {
        (self.services * 2 + self.services / 4 + 16).min(u32::from(u16::MAX))
    }

    /// Cells of the target table: a quarter more than targets, to move pools about in.
    pub fn target_cells(&self) -> u32 {
        self.targets + self.targets / 4
    }

    /// Lines of the flow table.
    pub fn flow_lines(&self) -> u32 {
        self.flows / FLOWS_PER_LINE as u32
    }

    /// New flows that one service may write down a second, on all CPUs together: a sixteenth of the table.
    pub fn flow_budget(&self) -> u32 {
        self.flows / 16
    }

    /// Services that can route by connection IDs, with room for the sets that take the place of others.
    pub fn quic_sets(&self) -> u32 {
        (self.services / 16).max(16)
    }

    /// Lines for server IDs: for as many as there can be targets, and again while one set takes the place of another.
    pub fn server_lines(&self) -> u32 {
        self.targets.next_power_of_two() * 2
    }

    /// Entries of the table of `fullnat` flows: one a direction.
    pub fn translations(&self) -> u32 {
        self.nat_flows * 2
    }

    /// Lines of the slot table.
    pub fn slot_lines(&self) -> u32 {
        self.slots / SLOTS_PER_LINE
    }
}

/// The desired state does not fit the tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// Too many targets.
    #[error("{wanted} backends in all services, at most {limit}: raise `max_targets` and restart")]
    Targets {
        /// What was asked for.
        wanted: usize,
        /// What fits.
        limit: u32,
    },
    /// No run of target cells is long enough.
    #[error("no room for {0} backends of {1} in a row: raise `max_targets` and restart")]
    TargetRun(u32, ServiceName),
    /// A service's backends, with those that went of late, are more than slots can name.
    #[error("{0} has too many backends, counting those removed a moment ago: try again in a few seconds")]
    Indexes(ServiceName),
    /// No run of slots is long enough.
    #[error("no room for a table of {0} slots of {1}: raise `max_slots` and restart")]
    SlotRun(u32, ServiceName),
    /// No number is free.
    #[error(
        "all numbers of services are in use: raise `max_services` and restart, or wait until services that were removed are forgotten"
    )]
    Numbers,
    /// Too many services.
    #[error("{wanted} services, at most {limit}: raise `max_services` and restart")]
    Services {
        /// What was asked for.
        wanted: usize,
        /// What fits.
        limit: u32,
    },
    /// Too many prefixes of clients.
    #[error(
        "{0} prefixes in the `source` lists of all services, at most {MAX_SOURCES}: name larger prefixes"
    )]
    Sources(usize),
    /// Too many services route by connection IDs.
    #[error(
        "no room for the QUIC configurations of {1}: {0} services can have some, counting those changed a moment ago. \
         Raise `max_services` and restart, or try again in a few seconds"
    )]
    QuicSets(u32, ServiceName),
    /// No run of lines is long enough.
    #[error("no room for {0} server IDs of {1}: raise `max_targets` and restart")]
    Servers(usize, ServiceName),
    /// Too many keys.
    #[error(transparent)]
    Table(#[from] TableError),
}
