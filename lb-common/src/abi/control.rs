//! What changes about the tables as a whole while packets flow, and how it changes.
//!
//! The program reads these words in place, without a look-up, and user space can only copy the whole structure over
//! them. So that a packet never sees half a copy: a multiplier is written while its half is not in use, and what
//! takes effect, a half or a feature, is one byte.

use bytemuck::{Pod, Zeroable};

use super::service::ServiceKey;

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

/// Which look-ups can find anything at all; what is off costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Features(pub u32);

impl Features {
    /// Some service takes any port.
    pub const ANY_PORT: u32 = 1;
    /// Some service uses the `nat` forwarder.
    pub const RETURNS: u32 = 2;

    /// Whether the feature is in use.
    #[inline(always)]
    pub const fn has(self, feature: u32) -> bool {
        self.0 & feature != 0
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
    /// The generation of the wish that the tables show. Not read by the program.
    pub generation: u64,
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
        let either = Features(before.features.0 | self.features.0);
        let prepared = Self {
            halves: before.halves,
            features: either,
            ..self
        };
        [
            prepared,
            Self {
                features: either,
                ..self
            },
            self,
        ]
    }
}

const _: () = assert!(size_of::<Control>() == 56);
