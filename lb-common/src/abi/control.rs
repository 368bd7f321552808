//! What changes about the tables as a whole while packets flow, and how it changes.
//!
//! The program reads these words in place, without a look-up, and user space can only copy the whole structure over
//! them. So that a packet never sees half a copy: a multiplier is written while its half is not in use, and what
//! takes effect, a half or a feature, is one byte.

use bitflags::bitflags;
use bytemuck::{Pod, Zeroable};

use super::{Lengths, service::ServiceKey};

/// Where a family's service table is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableIndex {
    /// Spreads keys over lines; chosen by user space, odd.
    pub multiplier: u64,
    /// The half in use, 0 or 1.
    pub half: u32,
    /// log2 of the lines that keys hash to in each half.
    pub bits: u32,
}

impl TableIndex {
    /// Index of the first line of the half: a half is `1 << bits` lines that keys hash to, then as many that chains
    /// overflow into.
    #[inline(always)]
    pub const fn base(self) -> u32 {
        self.half << (self.bits + 1)
    }

    /// The first line to look for `key` in, within the whole table.
    #[inline(always)]
    pub fn line<K: ServiceKey>(self, key: &K) -> u32 {
        let hashed = key.fold().wrapping_mul(self.multiplier) >> (64 - self.bits);
        (hashed as u32).wrapping_add(self.base())
    }
}

bitflags! {
    /// Which look-ups can find anything at all; what is off costs nothing.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
    #[repr(transparent)]
    pub struct Features: u32 {
        /// Some service takes any port.
        const ANY_PORT = 1;
        /// Some service uses the `nat` forwarder.
        const RETURNS = 2;
        /// Some service takes a range of ports, or a prefix of addresses.
        const RANGES = 4;
        /// Some service uses the `fullnat` forwarder.
        const FULLNAT = 8;
        /// Some VIP does not leave to the host what is for none of its services.
        const UNSERVED = 16;
    }
}

/// The program's data section of that name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Control {
    /// Multipliers of the service tables: IPv4 and IPv6, each for half 0 and half 1.
    pub multipliers: [[u64; 2]; 2],
    /// The half in use: IPv4, IPv6.
    pub halves: [u32; 2],
    /// Look-ups that can find anything.
    pub features: Features,
    /// Changes whenever a route or a neighbour of the host may have changed. A number read half old and half new
    /// is no harm: it differs from both.
    pub routes: u32,
    /// The generation of the desired state that the tables show. Not read by the program.
    pub generation: u64,
    /// Lengths of the prefixes that services have as VIPs: IPv4 and IPv6.
    pub lengths: [Lengths; 2],
}

impl Control {
    /// Where the family's service table is found.
    pub const fn index(&self, v6: bool, bits: u32) -> TableIndex {
        let half = self.halves[v6 as usize];
        TableIndex {
            multiplier: self.multipliers[v6 as usize][half as usize & 1],
            half,
            bits,
        }
    }

    /// Makes `index` the one in use.
    pub const fn set_index(&mut self, v6: bool, index: TableIndex) {
        self.multipliers[v6 as usize][index.half as usize & 1] = index.multiplier;
        self.halves[v6 as usize] = index.half & 1;
    }

    /// The copies to make, in order, on the way from `before` to this. Each takes effect byte by byte: multipliers of
    /// halves not in use, and look-ups that will be needed; then the halves; then look-ups no longer needed go.
    #[must_use]
    pub const fn steps_from(self, before: &Self) -> [Self; 3] {
        let switched = Self {
            features: before.features.union(self.features),
            lengths: [
                self.lengths[0].or(before.lengths[0]),
                self.lengths[1].or(before.lengths[1]),
            ],
            ..self
        };
        let prepared = Self {
            halves: before.halves,
            ..switched
        };
        [prepared, switched, self]
    }
}

const _: () = assert!(size_of::<Control>() == 88);

#[cfg(test)]
mod tests {
    use super::super::{Direction, Key4, Selector};
    use super::*;

    #[test]
    fn a_key_stays_within_the_half_in_use() {
        for (half, bits) in [(0, 4), (1, 4), (0, 16), (1, 16)] {
            let index = TableIndex {
                multiplier: 0x9E37_79B9_7F4A_7C15,
                half,
                bits,
            };
            for port in 0..1000 {
                let key = Key4::new(0x0a00_0001, Selector::new(port, 6, Direction::ToService));
                let line = index.line(&key) - index.base();
                assert!(line < 1 << bits, "line {line} of half {half} with {bits} bits");
            }
        }
    }

    #[test]
    fn a_switch_prepares_before_it_takes_effect() {
        let lengths = |length| {
            let mut lengths = Lengths::default();
            lengths.insert(length);
            [Lengths::default(), lengths]
        };
        let before = Control {
            features: Features::RETURNS,
            lengths: lengths(48),
            ..Control::default()
        };
        let mut after = Control {
            features: Features::ANY_PORT,
            generation: 7,
            lengths: lengths(64),
            ..before
        };
        after.set_index(
            true,
            TableIndex {
                multiplier: 9,
                half: 1,
                bits: 4,
            },
        );
        let [prepared, switched, done] = after.steps_from(&before);
        assert_eq!(prepared.index(true, 4), before.index(true, 4));
        assert_eq!(prepared.multipliers[1][1], 9);
        for step in [prepared, switched] {
            assert!(step.features.contains(Features::RETURNS | Features::ANY_PORT));
            assert_eq!(step.lengths[1], before.lengths[1].or(after.lengths[1]));
        }
        assert_eq!(switched.index(true, 4), after.index(true, 4));
        assert_eq!(done, after);
    }
}
