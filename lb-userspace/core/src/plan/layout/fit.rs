//! Whether pools fit the tables, and the errors when they do not.

use std::collections::HashSet;

use super::placed_pools::{PlacedPools, PoolsDelta};
use lb_common::abi::MAX_SOURCES;

use crate::desired::ServiceName;
use crate::plan::{
    pools::pool::PoolKey,
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

/// Whether the tables hold so many services and backends as there are once `delta` has changed `present`.
///
/// # Errors
/// When they do not.
pub(super) fn check(
    capacity: &Capacity,
    present: &PlacedPools,
    delta: &PoolsDelta,
) -> Result<(), CapacityError> {
    let replaced = delta.changed.iter().map(|pool| &pool.key).chain(&delta.gone);
    let replaced = replaced.filter_map(|key| present.get(key));
    let less: usize = replaced.map(|placed| placed.pool.members.len()).sum();
    let more: usize = delta.changed.iter().map(|pool| pool.members.len()).sum();
    let wanted = present.totals().members + more - less;
    let limit = capacity.targets;
    if wanted > limit as usize {
        return Err(CapacityError::Targets { wanted, limit });
    }
    let wanted = services_after(present, delta);
    let limit = capacity.services;
    if wanted > limit as usize {
        return Err(CapacityError::Services { wanted, limit });
    }
    Ok(())
}

/// How many services have a pool once `delta` has changed `present`.
fn services_after(present: &PlacedPools, delta: &PoolsDelta) -> usize {
    let changed: HashSet<&ServiceName> = delta.changed.iter().map(|pool| &pool.key.service).collect();
    let gone_keys: HashSet<&PoolKey> = delta.gone.iter().collect();
    let has_pool = |name: &&&ServiceName| present.keys_of(name).next().is_some();
    let loses_all = |name: &&&ServiceName| {
        !changed.contains(**name) && present.keys_of(name).all(|key| gone_keys.contains(&key))
    };
    let gone: HashSet<&ServiceName> = delta.gone.iter().map(|key| &key.service).collect();
    let lost = gone.iter().filter(has_pool).filter(loses_all).count();
    let new = changed.iter().filter(|name| !has_pool(name)).count();
    present.services() + new - lost
}
