//! Whether pools fit the tables, and the errors when they do not.

use std::collections::HashSet;

use lb_common::abi::MAX_SOURCES;

use crate::desired::ServiceName;
use crate::plan::{
    pools::pool::Pool,
    tables::{capacity::Capacity, service_table::TableError},
};

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

/// Whether the tables hold so many services and backends.
///
/// # Errors
/// When they do not.
pub(super) fn check(capacity: &Capacity, pools: &[Pool]) -> Result<(), CapacityError> {
    let Capacity {
        services, targets, ..
    } = *capacity;
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
