//! What the operator asks for: services, their backends, and the changes that lead from one desired state to the next.
//!
//! Invariant: a [`Services`] value is always valid as a whole. Every constructor and every [`Change`] checks the
//! rules before anything else sees the result, so the planner and the dataplane never meet a bad desired state.

mod apply;
#[cfg(any(test, feature = "arbitrary"))]
pub mod arbitrary;
mod backend;
mod change;
mod claims;
mod dependents;
mod error;
mod leaving;
mod losses;
mod mac;
mod merge_patch;
mod mss;
mod name;
mod patch;
mod port;
mod prefix;
mod quic;
mod rules;
mod scheduler;
mod service;
mod services;
mod source;
mod source_pool;
mod vlan;
mod words;

pub use apply::ChangeError;
pub use backend::{Backend, BackendId, BackendPatch};
pub use change::{Change, Removal, Selection};
pub use dependents::{Dependents, NeedsDelta};
pub use error::{Invalid, Key};
pub use losses::Losses;
pub use mac::MacAddress;
pub use mss::MssClamp;
pub use name::{ServiceName, Zone};
pub use patch::ServicePatch;
pub use port::{PortRange, ServicePort};
pub use prefix::Prefix;
pub use quic::{Quic, QuicConfig, QuicKey, ServerId};
pub use rules::{check_unicast, check_vip};
pub(crate) use scheduler::schedulers;
pub use scheduler::{Scheduler, Shares};
pub use service::Service;
pub use services::Services;
pub use source::Source;
/// A span of time that an operator sets, from a second to a day.
pub type Span = lb_check::Span<1_000, 86_400_000>;
pub use vlan::{Vlan, VlanId};
pub use words::{
    AdminState, Affinity, Forwarder, Fragments, OnEmpty, Protocol, TrackingPolicy, TtlExpired, Unserved,
};

/// Most services one agent accepts, whatever the dataplane was sized for.
pub const MAX_SERVICES: usize = 65_536;
/// Most VIPs of one service.
pub const MAX_VIPS: usize = 256;
/// Most lengths of VIPs that are prefixes, in one family over all services: a packet is looked for at each of them.
pub const MAX_PREFIX_LENGTHS: usize = 4;
/// Most backends of one service: a slot has 15 bits for the backend, and one value says "none".
pub const MAX_BACKENDS: usize = 32_766;

#[cfg(test)]
mod tests;
