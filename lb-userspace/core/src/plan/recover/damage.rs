//! What can be wrong with tables that are read back.

use std::net::IpAddr;

use crate::desired::ServiceName;

/// Tables that no agent of this version can have left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the tables in the kernel are damaged: {0}. Take the dataplane away with `lb stop --detach`, then start again: \
     connections that are open now may break"
)]
pub struct AdoptError(#[from] pub Damage);

/// What is wrong with tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Neither half of a service table is in use.
    #[error("half {0} of a service table is said to be in use, and there are 0 and 1")]
    Half(u32),
    /// A key in a line where look-ups do not come by, or which they find elsewhere first.
    #[error("line {0} of a service table holds a key that is not looked for there")]
    Astray(u32),
    /// A key that no packet can have.
    #[error("a key of {0} leads to service number {1}, with protocol {2}")]
    Key(IpAddr, u32, u8),
    /// Keys lead to a number that has no record.
    #[error("keys lead to service number {0}, of which nothing is noted")]
    Nameless(u32),
    /// Two numbers have one name.
    #[error("service {0} has two numbers, {1} and another one")]
    Twice(ServiceName, u32),
    /// Keys lead to a location that no record has.
    #[error("keys of service {0} lead to cells that are not known to be its own")]
    Place(ServiceName),
    /// Cells are outside the tables, or belong to two services.
    #[error("cells of service {0} are outside the tables, or another service's too")]
    Overlap(ServiceName),
    /// A set of QUIC configurations lies where it cannot be.
    #[error("the QUIC configurations of service number {0} are outside the tables, or another service's too")]
    Routing(u32),
    /// A slot leads to a target that belongs to no backend.
    #[error("slot {1} of service {0} leads to target {2}, which is nobody's")]
    Slot(ServiceName, usize, u32),
}
