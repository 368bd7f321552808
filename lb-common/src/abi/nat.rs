//! Flows through `fullnat`: both directions of each are entries of one table, found by what a packet shows and telling
//! what it is to show instead.
//!
//! Invariant: an entry's opposite is found by the key [`FlowEnds::reversed`] of what the entry tells, and tells the reversed
//! key of the entry. No two flows show a backend the same ends, since a key is inserted only where none is.

use bytemuck::{Pod, Zeroable};

use crate::net::{TCP, tcp};

/// Both ends of a flow, as packets of one direction show them. Addresses are wide (see
/// [`super::TargetEntry::addresses`]). Key of map `TRANSLATIONS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct FlowEnds {
    /// Source address.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// Source port in the low half, destination port in the high half, wire order.
    pub ports: u32,
    /// The transport protocol.
    pub protocol: u32,
}

impl FlowEnds {
    /// As packets of the other direction show them.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: self.ports.rotate_left(16),
            protocol: self.protocol,
        }
    }

    /// Two ports as one word: `source` and `destination` are in wire order.
    #[inline(always)]
    pub const fn ports(source: u16, destination: u16) -> u32 {
        source as u32 | (destination as u32) << 16
    }
}

/// Value of map `TRANSLATIONS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct NatEntry {
    /// What packets show once they are translated.
    pub to: FlowEnds,
    /// The [`super::ServiceEntry::number`] of its service.
    pub service: u32,
    /// Which of the service's targets its backend is: an index within the service's run.
    pub owner: u32,
    /// Index of the target when the flow's last packet to its backend went by.
    pub target: u32,
    /// The flow clock at the last packet of this direction.
    pub clock: u32,
    /// How far packets of this direction have closed the flow: [`NatEntry::OPEN`] and so on.
    pub state: u32,
    /// 1 in the entry of the direction from the backend to the client, else 0.
    pub is_back: u32,
}

impl NatEntry {
    /// [`NatEntry::state`]: the flow goes on.
    pub const OPEN: u32 = 0;
    /// This direction has ended (FIN).
    pub const HALF_CLOSED: u32 = 1;
    /// The whole flow is over (RST).
    pub const RESET: u32 = 2;
    /// The client has sent one packet and not spoken again, so that it may not be there at all. Only ever of the
    /// direction from the client to the backend.
    pub const OPENING: u32 = 3;

    /// Takes note of the client's first packet.
    #[inline(always)]
    pub const fn begin(&mut self, tcp_flags: u8) {
        self.state = if self.is_tcp() && tcp::resets(tcp_flags) {
            Self::RESET
        } else {
            Self::OPENING
        };
    }

    /// Takes note of another packet of this direction.
    #[inline(always)]
    pub const fn touch(&mut self, clock: u32, tcp_flags: u8) {
        self.clock = clock;
        let flags = if self.is_tcp() { tcp_flags } else { 0 };
        let is_repeated = self.state == Self::OPENING && tcp::has_syn(flags);
        self.state = if tcp::resets(flags) {
            Self::RESET
        } else if tcp::closes_flow(flags) {
            Self::HALF_CLOSED
        } else if is_repeated || self.state == Self::HALF_CLOSED {
            self.state
        } else {
            // Also after a RST, which anybody may have sent: who goes on talking was not reset.
            Self::OPEN
        };
    }

    /// Whether a packet of this direction opens another flow between the same ends: this one has ended.
    #[inline(always)]
    pub const fn is_followed_by(&self, tcp_flags: u8) -> bool {
        let has_ended = self.state == Self::HALF_CLOSED || self.state == Self::RESET;
        self.is_tcp() && has_ended && tcp::opens_flow(tcp_flags)
    }

    #[inline(always)]
    const fn is_tcp(&self) -> bool {
        self.to.protocol == TCP as u32
    }

    /// Whether the flow is over, given its entry of the other direction: it was reset, or both directions have ended.
    pub const fn is_closed(&self, opposite: &Self) -> bool {
        self.state == Self::RESET
            || opposite.state == Self::RESET
            || self.state == Self::HALF_CLOSED && opposite.state == Self::HALF_CLOSED
    }

    /// Units of the flow clock since the last packet of either direction.
    pub const fn idle(&self, opposite: &Self, clock: u32) -> u32 {
        let (a, b) = (age(self.clock, clock), age(opposite.clock, clock));
        if a < b { a } else { b }
    }
}

/// Units of the flow clock from `at` until `clock`: 0 also if `at` is later, since packets come while a clock is read.
const fn age(at: u32, clock: u32) -> u32 {
    let age = clock.wrapping_sub(at);
    if age > u32::MAX / 2 { 0 } else { age }
}

/// Addresses and ports that `fullnat` flows show their backends, of one address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SnatPoolEntry {
    /// Index of its first address in map `NAT_SOURCES`.
    pub first: u32,
    /// Addresses.
    pub addresses: u32,
    /// The first port, native order; above it [`SnatPoolEntry::EXHAUSTED`].
    pub first_port: u32,
    /// Ports.
    pub ports: u32,
}

impl SnatPoolEntry {
    /// Places that are tried for a new flow before it is refused: half of them here and there at its client's address,
    /// so that a nearly full one is searched evenly; the others side by side at all addresses, so that a small pool is
    /// searched whole.
    pub const TRIES: u32 = 32;
    /// Places that lie side by side among them.
    const SEARCHED: u32 = Self::TRIES / 2;
    /// Flag of [`SnatPoolEntry::first_port`]: hardly a place is left, so that a flow that finds none is refused.
    pub const EXHAUSTED: u32 = 1 << 31;

    /// Whether a flow that finds no place is to be refused at once: another try, at other places, would hardly help.
    #[inline(always)]
    pub const fn is_exhausted(&self) -> bool {
        self.first_port & Self::EXHAUSTED != 0 || self.source_ports() <= Self::SEARCHED
    }

    /// How many places there are.
    #[inline(always)]
    pub const fn source_ports(&self) -> u32 {
        self.addresses.wrapping_mul(self.ports)
    }

    /// The place to try at the `nth` time, for a flow of that hash and a client of that one: index of the address, and
    /// port in wire order. `None` if the pool is empty.
    ///
    /// A client's flows come from one address while it has room (RFC 4787 §4.1), and so do the fragments of one packet.
    #[inline(always)]
    pub const fn source_port(&self, client: u64, flow: u64, nth: u32) -> Option<(u32, u16)> {
        let (addresses, ports, places) = (self.addresses, self.ports, self.source_ports());
        if addresses == 0 || ports == 0 || places == 0 {
            return None;
        }
        const SCATTERED: u32 = SnatPoolEntry::TRIES - SnatPoolEntry::SEARCHED;
        let first = client as u32 % addresses;
        let (address, port) = if nth < SCATTERED {
            // An odd number from the hash's other half: from port to port without a pattern.
            let jump = nth.wrapping_mul((flow >> 32) as u32 | 1);
            (first, (flow as u32).wrapping_add(jump) % ports)
        } else {
            // All addresses of a port, then the next port.
            let begin = (flow as u32 % ports).wrapping_mul(addresses).wrapping_add(first);
            let place = begin.wrapping_add(nth - SCATTERED + 1) % places;
            (place % addresses, place / addresses)
        };
        let port = self.first_port.wrapping_add(port) as u16;
        Some((self.first.wrapping_add(address), port.to_be()))
    }
}

/// Most addresses of map `NAT_SOURCES`.
pub const MAX_NAT_SOURCES: u32 = 256;

const _: () = assert!(size_of::<FlowEnds>() == 40 && size_of::<NatEntry>() == 64);
const _: () = assert!(size_of::<SnatPoolEntry>() == 16);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::HashSet, vec::Vec};

    use super::*;
    use crate::net::UDP;
    use proptest::prelude::*;

    #[test]
    fn a_flow_is_over_when_both_ends_said_so_or_one_gave_up() {
        let tcp = || NatEntry {
            to: FlowEnds {
                protocol: u32::from(TCP),
                ..FlowEnds::default()
            },
            ..NatEntry::default()
        };
        let (mut there, mut back) = (tcp(), tcp());
        there.touch(1, tcp::FIN);
        assert!(!there.is_closed(&back));
        back.touch(2, tcp::FIN);
        assert!(there.is_closed(&back) && back.is_closed(&there));
        assert!(there.is_followed_by(tcp::SYN), "the port is used again");
        assert!(!there.is_followed_by(tcp::SYN | tcp::ACK) && !there.is_followed_by(tcp::ACK));
        let (mut there, mut back) = (tcp(), tcp());
        back.touch(4, tcp::RST);
        assert!(there.is_closed(&back));
        assert_eq!(there.idle(&back, 9), 5);
        assert_eq!(there.idle(&back, 3), 0, "a packet came after the clock was read");
        back.touch(5, tcp::ACK);
        assert!(!there.is_closed(&back), "somebody else sent the reset");
        there.touch(6, tcp::RST);
        assert!(there.is_closed(&back));
    }

    #[test]
    fn a_flow_opens_when_its_client_speaks_again() {
        let begun = |protocol: u8, flags| {
            let mut entry = NatEntry::default();
            entry.to.protocol = u32::from(protocol);
            entry.begin(flags);
            entry
        };
        let mut syn = begun(TCP, tcp::SYN);
        syn.touch(1, tcp::SYN);
        assert_eq!(syn.state, NatEntry::OPENING, "sent again, since nobody answered");
        assert!(!syn.is_followed_by(tcp::SYN));
        syn.touch(2, tcp::ACK);
        assert_eq!(syn.state, NatEntry::OPEN);
        assert_eq!(
            begun(TCP, tcp::ACK).state,
            NatEntry::OPENING,
            "of a connection that is not known"
        );
        assert_eq!(begun(TCP, tcp::RST).state, NatEntry::RESET);
        let mut datagram = begun(UDP, tcp::RST);
        assert_eq!(datagram.state, NatEntry::OPENING);
        datagram.touch(1, tcp::SYN);
        assert_eq!(datagram.state, NatEntry::OPEN);
    }

    #[test]
    fn datagrams_close_nothing() {
        let mut entry = NatEntry::default();
        entry.touch(1, tcp::RST | tcp::FIN);
        assert_eq!(entry.state, NatEntry::OPEN);
    }

    proptest! {
        #[test]
        fn turning_ends_round_twice_changes_nothing(
            source: [u64; 2], destination: [u64; 2], ports: u32, protocol: u32,
        ) {
            let ends = FlowEnds { source, destination, ports, protocol };
            prop_assert_eq!(ends.reversed().reversed(), ends);
            prop_assert_eq!(FlowEnds::ports(ports as u16, (ports >> 16) as u16), ports);
        }

        /// All places lie within the pool, a small pool is tried whole, and a client has its own address.
        #[test]
        fn every_place_is_of_the_pool(
            first in 0_u32..9, addresses in 1_u32..9, first_port in 1_u32..60_000, ports in 1_u32..5_000,
            client: u64, flow: u64, other: u64,
        ) {
            let pool = SnatPoolEntry { first, addresses, first_port, ports };
            let places: Vec<_> =
                (0..SnatPoolEntry::TRIES).map(|nth| pool.source_port(client, flow, nth).unwrap()).collect();
            prop_assert_eq!(pool.source_port(client, other, 0).unwrap().0, places[0].0);
            for (address, port) in &places {
                let port = u32::from(u16::from_be(*port));
                prop_assert!((first..first + addresses).contains(address));
                prop_assert!((first_port..first_port + ports).contains(&port));
            }
            if pool.source_ports() <= SnatPoolEntry::TRIES / 2 {
                let distinct: HashSet<_> = places.into_iter().collect();
                prop_assert_eq!(distinct.len() as u32, pool.source_ports());
            }
        }
    }

    #[test]
    fn a_pool_is_exhausted_where_it_was_searched_whole_or_is_said_to_be() {
        let pool = |ports, flag| SnatPoolEntry {
            first: 0,
            addresses: 1,
            first_port: 1024 | flag,
            ports,
        };
        assert!(pool(16, 0).is_exhausted() && !pool(17, 0).is_exhausted());
        let marked = pool(5000, SnatPoolEntry::EXHAUSTED);
        assert!(marked.is_exhausted());
        assert_eq!(marked.source_port(3, 9, 4), pool(5000, 0).source_port(3, 9, 4));
    }

    #[test]
    fn an_empty_pool_has_no_place() {
        assert_eq!(SnatPoolEntry::default().source_port(1, 1, 0), None);
    }
}
