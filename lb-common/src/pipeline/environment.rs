//! What the pipeline works on: a packet, and what it asks of tables and host.

use crate::{
    abi::{
        AclKey, DeviceEntry, Features, FlowEnds, FragmentEntry, FragmentKey, Key4, Key6, Lengths, Mac,
        MacKey, NatEntry, OptionsEntry, QuicSetEntry, Reason, ServerIdEntry, ServerTable, ServiceEntry,
        ServiceLine4, ServiceLine6, SlotLine, SnatPoolEntry, TableIndex, TagsEntry, TargetEntry,
    },
    flows::{Event, Query, Selected},
    net::Bytes,
    quic::aes::Cipher,
};

use super::{detour::InsertOutcome, wrap::Wrap};

/// A frame that the balancer forwards.
pub trait Packet: Bytes {
    /// Cuts off what of the frame is behind its first `len` bytes; false if it cannot be done.
    fn trim(&mut self, len: usize) -> bool;
    /// Gives the packet the front that its target asks for: [`super::wrap::wrap`], which the kernel build makes a function of
    /// its own.
    ///
    /// # Errors
    /// Why it cannot be done; the packet is as it came then.
    fn wrap<T: Tables>(&mut self, tables: &T, wrap: Wrap) -> Result<(), Reason>;
}

/// What the pipeline asks of its tables and of the host.
pub trait Tables: Cipher {
    /// Seed of the flow hash.
    fn seed(&self) -> u64;
    /// Look-ups that can find anything.
    fn features(&self) -> Features;
    /// Where the service table of IPv4 or IPv6 is found.
    fn service_index(&self, v6: bool) -> TableIndex;
    /// A line of map `SERVICES4`.
    fn service_line4(&self, line: u32) -> Option<&ServiceLine4>;
    /// A line of map `SERVICES6`.
    fn service_line6(&self, line: u32) -> Option<&ServiceLine6>;
    /// Follows a chain of `SERVICES4` from line `first` to the line that holds `key`; 0 if none does. Rare, so the
    /// kernel build makes [`crate::abi::follow_chain`] a function of its own, verified once and not at every look-up.
    fn follow4(&self, first: u32, key: &Key4) -> u32;
    /// The same for `SERVICES6`.
    fn follow6(&self, first: u32, key: &Key6) -> u32;
    /// The service of that key: [`super::look_up4`], which the kernel build makes a function of its own.
    fn look_up4(&self, key: &Key4) -> Option<ServiceEntry>;
    /// The same of IPv6.
    fn look_up6(&self, key: &Key6) -> Option<ServiceEntry>;
    /// Lengths of the prefixes of IPv4 or IPv6 that services have as VIPs.
    fn lengths(&self, v6: bool) -> Lengths;
    /// A line of map `SLOTS`.
    fn slots(&self, line: u32) -> Option<&SlotLine>;
    /// What is known of the packet that a fragment is of, from map `FRAGMENTS` into `record`; false if nothing is.
    fn fragments(&self, key: &FragmentKey, record: &mut FragmentEntry) -> bool;
    /// Notes what is known of it.
    fn note_fragments(&self, key: &FragmentKey, record: &FragmentEntry);
    /// All of its fragments were seen.
    fn forget_fragments(&self, key: &FragmentKey);
    /// What `visit` makes of the entry of map `TRANSLATIONS` by that key, if there is one. It may write words of it: other CPUs may
    /// do so at the same time.
    fn translation<R>(&self, key: &FlowEnds, visit: impl FnOnce(&mut NatEntry) -> R) -> Option<R>;
    /// Inserts an entry where none is by that key.
    fn claim(&self, key: &FlowEnds, entry: &NatEntry) -> InsertOutcome;
    /// Removes an entry.
    fn forget_translation(&self, key: &FlowEnds);
    /// What `fullnat` flows of IPv4 or IPv6 are given places of.
    fn source_pool(&self, v6: bool) -> SnatPoolEntry;
    /// An entry of map `NAT_SOURCES`.
    fn nat_source(&self, index: u32) -> Option<[u64; 2]>;
    /// Whether one more answer for that reason may be made now: so many a second, so that nobody can use the balancer to
    /// flood others (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
    fn may_answer(&self, reason: Reason) -> bool;
    /// The flow clock.
    fn now(&self) -> u32;
    /// Asks the flow table: [`crate::flows::look_up`], which the kernel build makes a function of its own.
    fn look_up(&self, query: &Query) -> Selected;
    /// Whether the packet is only explained: it must leave no trace in the tables.
    fn explains(&self) -> bool;
    /// An entry of map `TARGETS`.
    fn target(&self, index: u32) -> Option<&TargetEntry>;
    /// An entry of map `TAGS`, by a target's index.
    fn tags(&self, index: u32) -> Option<&TagsEntry>;
    /// A line of map `OPTIONS`, by a service's number.
    fn options(&self, number: u32) -> Option<&OptionsEntry>;
    /// What the longest entry of map `SOURCES` that agrees with `client` says: an [`crate::abi::AclVerdict`] as a number, or
    /// 0 if there is none.
    fn access(&self, client: &AclKey) -> u32;
    /// An entry of map `QUIC`.
    fn quic(&self, index: u32) -> Option<&QuicSetEntry>;
    /// The target that a server ID names by map `SERVERS`: [`ServerTable::look_up`], which the kernel build makes a function of its own.
    fn server(&self, table: &ServerTable, id: &ServerIdEntry) -> Option<u32>;
    /// Notes what became of a packet of the service of that number.
    fn count(&self, number: u32, event: Event);
    /// One of [`crate::abi::OwnMacs::common`].
    fn common_mac(&self, index: usize) -> Mac;
    /// The interface's own MAC where it is at hand: its place in [`crate::abi::OwnMacs::own`], which may be another one's.
    fn own_mac(&self, interface: u32) -> MacKey;
    /// Whether map `MACS` has that entry.
    fn has_mac(&self, key: &MacKey) -> bool;
    /// Whether a frame to that MAC is for this host: [`super::accepts`], which the kernel build makes a function of its own.
    fn accepts(&self, mac: Mac, is_for_group: bool) -> bool;
    /// What is known of the interface of that index: map `UPPERS`.
    fn upper(&self, interface: u32) -> Option<DeviceEntry>;
    /// The interface that the packet came in by.
    fn ingress(&self) -> u32;
    /// The host's route for a packet that it would forward.
    fn route(&self, query: &RouteQuery) -> Route;
}

/// A packet for which the host's route is asked. Addresses are wide (see [`TargetEntry::addresses`]).
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
    /// Out of `egress` with these MACs (laid out as in [`TargetEntry`]).
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
