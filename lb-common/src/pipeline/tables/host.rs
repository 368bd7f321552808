//! The host that the balancer runs on: its clock, interfaces, addresses and routes.

use crate::abi::{DeviceEntry, Mac, MacKey, Reason, TagsEntry};

/// What the pipeline asks of the host, and of the packet's arrival there.
pub trait Host {
    /// The flow clock.
    fn now(&self) -> u32;
    /// The interface that the packet came in by.
    fn ingress(&self) -> u32;
    /// Whether the packet is only explained: it must leave no trace in the tables.
    fn explains(&self) -> bool;
    /// Whether one more answer for that reason may be made now: so many a second, so that nobody can use the balancer to
    /// flood others (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
    fn may_answer(&self, reason: Reason) -> bool;
    /// One of [`crate::abi::OwnMacs::common`].
    fn common_mac(&self, index: usize) -> Mac;
    /// The interface's own MAC where it is at hand: its place in [`crate::abi::OwnMacs::own`], which may be another one's.
    fn own_mac(&self, interface: u32) -> MacKey;
    /// Whether map `MACS` has that entry.
    fn has_mac(&self, key: &MacKey) -> bool;
    /// Whether a frame to that MAC is for this host: [`crate::pipeline::accepts`], which the kernel build makes a function of its own.
    fn accepts(&self, mac: Mac, is_for_group: bool) -> bool;
    /// What is known of the interface of that index: map `UPPERS`.
    fn upper(&self, interface: u32) -> Option<DeviceEntry>;
    /// The host's route for a packet that it would forward.
    fn route(&self, query: &RouteQuery) -> Route;
}

/// A packet for which the host's route is asked. Addresses are wide (see [`crate::abi::TargetEntry::addresses`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// IPv6 rather than IPv4.
    pub v6: bool,
    /// Source address.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// Transport protocol.
    pub protocol: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// IP length.
    pub len: u16,
}

/// The host's answer to a [`RouteQuery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Out of `egress` with these MACs (laid out as in [`crate::abi::TargetEntry`]).
    Hop {
        /// Destination MAC and the first two bytes of the source MAC.
        macs_head: u64,
        /// The rest of the source MAC.
        macs_tail: u32,
        /// Interface index.
        egress: u32,
        /// The VLAN tags that frames carry there.
        tags: TagsEntry,
    },
    /// The destination is this host.
    Local,
    /// Larger than the route's MTU, which is this.
    TooBig(u16),
    /// There is one, but not the MAC address of its next hop.
    NoNeighbour,
    /// No route, or forwarding is off.
    None,
}
