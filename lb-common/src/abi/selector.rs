//! What of a packet beside the address a service key asks for.

use bytemuck::{Pod, Zeroable};

/// Whether a key is matched against a packet's destination or its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// From a client to a VIP.
    ToService = 0,
    /// From a `nat` backend to a client.
    FromBackend = 1,
}

/// Which addresses a key is for: one, or all that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Scope(u8);

impl Scope {
    /// One address.
    pub const HOST: Self = Self(0);
    /// The shortest prefix; lengths below it stand for directions.
    pub const SHORTEST: u8 = 8;

    /// All addresses of a prefix of that many bits: from [`Scope::SHORTEST`] on, and fewer than an address has.
    #[inline(always)]
    pub const fn prefix(length: u8) -> Self {
        Self(length & 0x7f)
    }

    /// As a number, for [`Scope::from_number`].
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// The scope of that number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        Self(number as u8 & 0x7f)
    }

    /// Length of the prefix; `None` of one address.
    pub const fn length(self) -> Option<u8> {
        if self.0 == 0 { None } else { Some(self.0) }
    }
}

/// A block of ports: a power of two of them, at least two, the first a multiple of their number. Any range of ports is
/// made up of a few.
///
/// Half of the number is added to the first port: so blocks of different sizes never look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct PortBlock(u16);

impl PortBlock {
    /// Largest [`PortBlock::bits`]: a block of all ports.
    pub const MAX_BITS: u32 = 16;

    /// The block of `1 << bits` ports that holds `port` (host order). `bits` is 1 to [`PortBlock::MAX_BITS`].
    #[inline(always)]
    pub const fn around(port: u16, bits: u32) -> Self {
        let half = 1_u32 << (bits - 1);
        Self((port as u32 & !(2 * half - 1) | half) as u16)
    }

    /// How many ports it has, as a power of two.
    pub const fn bits(self) -> u32 {
        self.0.trailing_zeros() + 1
    }

    /// Its first port, host order.
    pub const fn first(self) -> u16 {
        self.0 & (self.0 - 1)
    }

    /// Its last port, host order.
    pub const fn last(self) -> u16 {
        self.0 | (self.0 - 1)
    }
}

/// What of a packet beside the address selects a service: port (as on the wire), protocol, and in the highest byte how
/// both are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Selector(pub u32);

impl Selector {
    /// In the highest byte: the port is a [`PortBlock`]. The other bits are a [`Scope`].
    const BLOCK: u32 = 0x80 << 24;
    /// Protocol of the VIP itself; reserved by IANA.
    const NO_PROTOCOL: u8 = 255;

    /// `port` as on the wire, 0 for any; `protocol` an IP protocol number.
    #[inline(always)]
    pub const fn new(port: u16, protocol: u8, direction: Direction) -> Self {
        Self::of(port, protocol, direction as u8)
    }

    /// Selects services of all addresses of `scope`; `port` as on the wire, 0 for any; `protocol` an IP protocol
    /// number.
    #[inline(always)]
    pub const fn within(scope: Scope, port: u16, protocol: u8) -> Self {
        Self::of(port, protocol, scope.0)
    }

    /// A block of ports.
    #[inline(always)]
    pub const fn block(scope: Scope, block: PortBlock, protocol: u8) -> Self {
        Self(Self::of(block.0, protocol, scope.0).0 | Self::BLOCK)
    }

    /// Packets that show no ports, to the one service that wants them nevertheless: fragments. (No block of ports is
    /// written as 0.)
    #[inline(always)]
    pub const fn portless(scope: Scope, protocol: u8) -> Self {
        Self(Self::of(0, protocol, scope.0).0 | Self::BLOCK)
    }

    /// The VIP itself, whatever the protocol: for ICMP, and for packets that show no port.
    #[inline(always)]
    pub const fn vip(scope: Scope) -> Self {
        Self::within(scope, 0, Self::NO_PROTOCOL)
    }

    /// The VIP that is one address.
    pub const VIP: Self = Self::vip(Scope::HOST);

    #[inline(always)]
    const fn of(port: u16, protocol: u8, how: u8) -> Self {
        Self(port as u32 | (protocol as u32) << 16 | (how as u32) << 24)
    }

    /// What it selects; `None` of a selector that no key has.
    pub const fn meaning(self) -> Option<Meaning> {
        let (port, how) = (self.0 as u16, (self.0 >> 24) as u8);
        if how == Direction::FromBackend as u8 {
            return Some(Meaning::FromBackend { port });
        }
        let scope = Scope(how & 0x7f);
        if scope.0 != 0 && scope.0 < Scope::SHORTEST {
            return None;
        }
        let is_block = self.0 & Self::BLOCK != 0;
        match port {
            0 if is_block => Some(Meaning::Portless { scope }),
            block if is_block => Some(Meaning::Block {
                scope,
                block: PortBlock(block),
            }),
            0 if self.protocol() == Self::NO_PROTOCOL => Some(Meaning::Vip { scope }),
            _ if self.protocol() == Self::NO_PROTOCOL => None,
            port => Some(Meaning::ToService { scope, port }),
        }
    }

    /// Whether what it selects is spread over slots: packets to a service.
    pub const fn leads_to_slots(self) -> bool {
        use Meaning::{Block, Portless, ToService};
        matches!(
            self.meaning(),
            Some(ToService { .. } | Block { .. } | Portless { .. })
        )
    }

    /// IP protocol number.
    pub const fn protocol(self) -> u8 {
        (self.0 >> 16) as u8
    }
}

/// What a [`Selector`] selects. Ports are as on the wire, 0 for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Packets to that port.
    ToService {
        /// Of these addresses.
        scope: Scope,
        /// The port.
        port: u16,
    },
    /// Packets to those ports.
    Block {
        /// Of these addresses.
        scope: Scope,
        /// The ports.
        block: PortBlock,
    },
    /// Packets that show no ports.
    Portless {
        /// To these addresses.
        scope: Scope,
    },
    /// Whatever concerns the VIP itself.
    Vip {
        /// Its addresses.
        scope: Scope,
    },
    /// Answers of a `nat` backend.
    FromBackend {
        /// From that port.
        port: u16,
    },
}

/// Lengths of prefixes: bit n - 1 of the 128 bits for length n, the lower half first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Lengths(pub [u64; 2]);

impl Lengths {
    /// Most lengths that are in use at once: each costs look-ups.
    pub const MAX: u32 = 4;

    /// Adds a length, 1 to 128.
    pub const fn insert(&mut self, length: u8) {
        let bit = (length - 1) as usize & 127;
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    /// How many there are.
    pub const fn count(self) -> u32 {
        self.0[0].count_ones() + self.0[1].count_ones()
    }

    /// The lengths that are in either.
    pub const fn or(self, other: Self) -> Self {
        Self([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }

    /// The next shorter one that is in use, after those of `scope`.
    #[inline(always)]
    pub const fn after(self, scope: Scope) -> Option<Scope> {
        // Bits of shorter lengths than that of the scope.
        let shorter = if scope.0 == 0 { 128 } else { scope.0 as u32 - 1 };
        let high = self.0[1] & lowest(shorter.saturating_sub(64));
        let low = self.0[0] & lowest(shorter);
        let length = if high != 0 {
            128 - high.leading_zeros()
        } else {
            64 - low.leading_zeros()
        };
        if length == 0 {
            None
        } else {
            Some(Scope::prefix(length as u8))
        }
    }
}

/// That many bits, or as many as there are.
#[inline(always)]
const fn lowest(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::HashSet, vec::Vec};

    use super::*;

    #[test]
    fn blocks_of_ports_differ_and_say_what_they_hold() {
        let mut seen = HashSet::new();
        for bits in 1..=PortBlock::MAX_BITS {
            for first in (0..=u32::from(u16::MAX)).step_by(1 << bits) {
                let last = (first + (1 << bits) - 1) as u16;
                let block = PortBlock::around(last, bits);
                assert_eq!(block, PortBlock::around(first as u16, bits));
                assert_eq!(
                    (block.bits(), block.first(), block.last()),
                    (bits, first as u16, last)
                );
                assert!(block.0 != 0 && seen.insert(block));
            }
        }
    }

    #[test]
    fn selectors_mean_what_they_were_made_for() {
        let block = PortBlock::around(30_000, 4);
        let mut seen = HashSet::new();
        for protocol in [6, 17, 132] {
            let port = 80_u16.to_be();
            let back = Selector::new(port, protocol, Direction::FromBackend);
            assert_eq!(back.meaning(), Some(Meaning::FromBackend { port }));
            assert!(seen.insert(back.0));
            for length in [0, 8, 24, 31, 64, 127] {
                let scope = Scope::prefix(length);
                let made = [
                    (
                        Selector::within(scope, port, protocol),
                        Meaning::ToService { scope, port },
                    ),
                    (
                        Selector::within(scope, 0, protocol),
                        Meaning::ToService { scope, port: 0 },
                    ),
                    (
                        Selector::block(scope, block, protocol),
                        Meaning::Block { scope, block },
                    ),
                    (Selector::portless(scope, protocol), Meaning::Portless { scope }),
                ];
                for (selector, meaning) in made {
                    assert_eq!(selector.meaning(), Some(meaning));
                    assert_eq!(selector.protocol(), protocol);
                    assert!(seen.insert(selector.0));
                }
                assert_eq!(Selector::vip(scope).meaning(), Some(Meaning::Vip { scope }));
            }
        }
        assert_eq!(
            Selector::new(5, 6, Direction::ToService),
            Selector::within(Scope::HOST, 5, 6)
        );
        for nonsense in [2 << 24, 7 << 24, 0x82 << 24, 255 << 16 | 1] {
            assert_eq!(Selector(nonsense).meaning(), None, "{nonsense:x}");
        }
    }

    #[test]
    fn lengths_come_out_longest_first() {
        let mut lengths = Lengths::default();
        for length in [24, 8, 64, 127, 65] {
            lengths.insert(length);
        }
        assert_eq!(lengths.count(), 5);
        let next = |scope: &Scope| lengths.after(*scope);
        let taken: Vec<u8> = core::iter::successors(next(&Scope::HOST), next)
            .filter_map(Scope::length)
            .collect();
        assert_eq!(taken, [127, 65, 64, 24, 8]);
        assert_eq!(Lengths::default().after(Scope::HOST), None);
    }
}
