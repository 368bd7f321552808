//! Flows through `fullnat`: both directions of each are entries of one table, found by what a packet shows and telling
//! what it is to show instead.
//!
//! Invariant: an entry's opposite is found by the key [`Ends::reversed`] of what the entry tells, and tells the reversed
//! key of the entry. No two flows show a backend the same ends, since a key is inserted only where none is.

use bytemuck::{Pod, Zeroable};

use crate::net::{TCP, tcp};

/// Both ends of a flow, as packets of one direction show them. Addresses are wide (see
/// [`super::Target::addresses`]). Key of map `TRANSLATIONS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Ends {
    /// Source address.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// Source port in the low half, destination port in the high half, wire order.
    pub ports: u32,
    /// The transport protocol.
    pub protocol: u32,
}

impl Ends {
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
pub struct Translation {
    /// What packets show once they are translated.
    pub to: Ends,
    /// The [`super::Service::number`] of its service.
    pub service: u32,
    /// Which of the service's targets its backend is: an index within the service's run.
    pub owner: u32,
    /// Index of the target when the flow's last packet to its backend went by.
    pub target: u32,
    /// The flow clock at the last packet of this direction.
    pub clock: u32,
    /// How far packets of this direction have closed the flow: [`Translation::OPEN`] and so on.
    pub state: u32,
    /// 1 in the entry of the direction from the backend to the client, else 0.
    pub is_back: u32,
}

impl Translation {
    /// [`Translation::state`]: nothing has been closed.
    pub const OPEN: u32 = 0;
    /// This direction has ended (FIN).
    pub const HALF_CLOSED: u32 = 1;
    /// The whole flow is over (RST).
    pub const RESET: u32 = 2;

    /// Takes note of a packet of this direction.
    #[inline(always)]
    pub const fn touch(&mut self, clock: u32, tcp_flags: u8) {
        self.clock = clock;
        if self.to.protocol != TCP as u32 {
            return;
        }
        self.state = if tcp::resets(tcp_flags) {
            Self::RESET
        } else if tcp::has_syn(tcp_flags) {
            // The client opens its next connection from the same port.
            Self::OPEN
        } else if tcp::closes_flow(tcp_flags) && self.state == Self::OPEN {
            Self::HALF_CLOSED
        } else {
            self.state
        };
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
pub struct SourcePool {
    /// Index of its first address in map `NAT_SOURCES`.
    pub first: u32,
    /// Addresses.
    pub addresses: u32,
    /// The first port, native order.
    pub first_port: u32,
    /// Ports.
    pub ports: u32,
}

impl SourcePool {
    /// Places that are tried for a new flow before it is refused: first here and there, so that a nearly full pool is
    /// searched evenly, then side by side, so that a small pool is searched whole.
    pub const TRIES: u32 = 32;

    /// How many places there are.
    #[inline(always)]
    pub const fn places(&self) -> u32 {
        self.addresses.wrapping_mul(self.ports)
    }

    /// The place to try at the `nth` time, for a flow of that hash: index of the address, and port in wire order.
    /// `None` if the pool is empty.
    #[inline(always)]
    pub const fn place(&self, hash: u64, nth: u32) -> Option<(u32, u16)> {
        let places = self.places();
        if places == 0 || self.ports == 0 {
            return None;
        }
        const SCATTERED: u32 = SourcePool::TRIES / 2;
        let jump = if nth < SCATTERED {
            // An odd number from the hash's other half: from place to place without a pattern.
            nth.wrapping_mul((hash >> 32) as u32 | 1)
        } else {
            nth - SCATTERED
        };
        let place = (hash as u32).wrapping_add(jump) % places;
        let port = self.first_port.wrapping_add(place % self.ports);
        Some((self.first.wrapping_add(place / self.ports), (port as u16).to_be()))
    }
}

/// Most addresses of map `NAT_SOURCES`.
pub const MAX_NAT_SOURCES: u32 = 256;

const _: () = assert!(size_of::<Ends>() == 40 && size_of::<Translation>() == 64);
const _: () = assert!(size_of::<SourcePool>() == 16);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::HashSet, vec::Vec};

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flow_is_over_when_both_ends_said_so_or_one_gave_up() {
        let tcp = || Translation {
            to: Ends {
                protocol: u32::from(TCP),
                ..Ends::default()
            },
            ..Translation::default()
        };
        let (mut there, mut back) = (tcp(), tcp());
        there.touch(1, tcp::FIN);
        assert!(!there.is_closed(&back));
        back.touch(2, tcp::FIN);
        assert!(there.is_closed(&back) && back.is_closed(&there));
        there.touch(3, tcp::SYN);
        assert!(!there.is_closed(&back), "the port is used again");
        back.touch(4, tcp::RST);
        assert!(there.is_closed(&back));
        assert_eq!(there.idle(&back, 9), 5);
        assert_eq!(there.idle(&back, 3), 0, "a packet came after the clock was read");
    }

    #[test]
    fn datagrams_close_nothing() {
        let mut entry = Translation::default();
        entry.touch(1, tcp::RST | tcp::FIN);
        assert_eq!(entry.state, Translation::OPEN);
    }

    proptest! {
        #[test]
        fn turning_ends_round_twice_changes_nothing(
            source: [u64; 2], destination: [u64; 2], ports: u32, protocol: u32,
        ) {
            let ends = Ends { source, destination, ports, protocol };
            prop_assert_eq!(ends.reversed().reversed(), ends);
            prop_assert_eq!(Ends::ports(ports as u16, (ports >> 16) as u16), ports);
        }

        /// All places lie within the pool, and a small pool is tried whole.
        #[test]
        fn every_place_is_of_the_pool(
            first in 0_u32..9, addresses in 1_u32..9, first_port in 1_u32..60_000, ports in 1_u32..5_000, hash: u64,
        ) {
            let pool = SourcePool { first, addresses, first_port, ports };
            let places: Vec<_> = (0..SourcePool::TRIES).map(|nth| pool.place(hash, nth).unwrap()).collect();
            for (address, port) in &places {
                let port = u32::from(u16::from_be(*port));
                prop_assert!((first..first + addresses).contains(address));
                prop_assert!((first_port..first_port + ports).contains(&port));
            }
            if pool.places() <= SourcePool::TRIES / 2 {
                let distinct: HashSet<_> = places.into_iter().collect();
                prop_assert_eq!(distinct.len() as u32, pool.places());
            }
        }
    }

    #[test]
    fn an_empty_pool_has_no_place() {
        assert_eq!(SourcePool::default().place(1, 0), None);
    }
}
