//! The one line that every packet reads first.

use bytemuck::{Pod, Zeroable};

use super::service::ServiceKey;

/// Where a family's service table is found: a multiplier (odd in nature, its lowest bit lent to the half) and the
/// half in use, in one word, so that one store switches both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct TableIndex(u64);

impl TableIndex {
    /// `half` is 0 or 1.
    pub const fn new(multiplier: u64, half: u32) -> Self {
        Self(multiplier & !1 | half as u64 & 1)
    }

    /// The half in use.
    #[inline(always)]
    pub const fn half(self) -> u32 {
        (self.0 & 1) as u32
    }

    /// The first line to look for `key` in, within the whole table of two halves of `2 << bits` lines each:
    /// `1 << bits` lines that keys hash to, then as many that chains overflow into.
    #[inline(always)]
    pub fn line<K: ServiceKey>(self, key: &K, bits: u32) -> u32 {
        let hashed = key.fold().wrapping_mul(self.0 | 1) >> (64 - bits);
        (hashed as u32).wrapping_add(self.half() << (bits + 1))
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

/// Map `CONTROL`, one entry, mmap-able.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Control {
    /// Index of `SERVICES4`.
    pub services4: TableIndex,
    /// Index of `SERVICES6`.
    pub services6: TableIndex,
    /// Seed of the flow hash; equal on balancers that must agree.
    pub seed: u64,
    /// log2 of the lines that keys hash to in each half of either service table.
    pub service_bits: u32,
    /// Look-ups that can find anything.
    pub features: Features,
    /// The generation of the wish that the tables show; written last. Not read by the dataplane.
    pub generation: u64,
    /// Zero.
    pub spare: [u64; 3],
}

const _: () = assert!(size_of::<Control>() == 64);
