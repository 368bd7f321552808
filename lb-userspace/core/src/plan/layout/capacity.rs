//! Sizes of the dataplane's tables, and the errors when a desired state does not fit them.

use std::collections::HashSet;

use lb_common::abi::{FLOWS_PER_LINE, MAX_SOURCES, SLOTS_PER_LINE};
use serde::{Deserialize, Serialize};

use crate::desired::ServiceName;
use crate::plan::{pools::pool::Pool, tables::service_table::TableError};

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
    /// log2 of the lines that service keys hash to. VIPs and the answers of `nat` backends need room beside services.
    pub fn service_bits(&self) -> u32 {
        (self.services.max(16) * 4).next_power_of_two().ilog2()
    }

    /// Lines of each service table: two halves, each with as many lines again for chains.
    pub fn service_lines(&self) -> u32 {
        4 << self.service_bits()
    }

    /// Numbers of pools: two for each service, whose families `nat` keeps apart, and some that rest. The highest number
    /// of 16 bits stands for VIPs.
    pub fn numbers(&self) -> u32 {
        (self.services * 2 + self.services / 4 + 16).min(u32::from(u16::MAX))
    }

    /// Cells of the target table: a quarter more than targets, so that pools can move.
    pub fn target_cells(&self) -> u32 {
        self.targets + self.targets / 4
    }

    /// Lines of the flow table.
    pub fn flow_lines(&self) -> u32 {
        self.flows / FLOWS_PER_LINE as u32
    }

    /// New flows that one service may put into the flow table a second, on all CPUs together: a sixteenth of the table.
    pub fn flow_budget(&self) -> u32 {
        self.flows / 16
    }

    /// Sets of QUIC configurations: services that can route by connection IDs, with room for sets that replace others.
    pub fn quic_sets(&self) -> u32 {
        (self.services / 16).max(16)
    }

    /// Lines for server IDs: enough for all targets, and as many again while one set replaces another.
    pub fn server_lines(&self) -> u32 {
        self.targets.next_power_of_two() * 2
    }

    /// Entries of the table of `fullnat` flows: one for each direction.
    pub fn translations(&self) -> u32 {
        self.nat_flows * 2
    }

    /// Lines of the slot table.
    pub fn slot_lines(&self) -> u32 {
        self.slots / SLOTS_PER_LINE
    }

    /// Whether the tables hold so many services and backends.
    ///
    /// # Errors
    /// When they do not.
    pub(super) fn check(&self, pools: &[Pool]) -> Result<(), CapacityError> {
        let Self {
            services, targets, ..
        } = *self;
        let wanted: usize = pools.iter().map(|pool| pool.members.len()).sum();
        if wanted > targets as usize {
            return Err(CapacityError::Targets {
                wanted,
                limit: targets,
            });
        }
        let names: HashSet<&ServiceName> = pools.iter().map(|pool| &pool.key.service).collect();
        let wanted = names.len();
        if wanted > services as usize {
            return Err(CapacityError::Services {
                wanted,
                limit: services,
            });
        }
        Ok(())
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
    /// A service has more backends than slots can name, counting those that went of late.
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
