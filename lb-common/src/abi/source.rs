//! Lists of clients that may use a service, and of those that may not.

use bytemuck::{Pod, Zeroable};

/// Most prefixes of all lists together. Map `SOURCES` holds twice as many: a list is replaced by another one, not changed.
pub const MAX_SOURCES: u32 = 65_536;

/// What entries of map `SOURCES` are found by, the longest that agrees: a trie of prefixes (`BPF_MAP_TYPE_LPM_TRIE`) whose
/// first bits are the list. Every list has an entry of no other bits, for clients that it does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct SourceKey {
    /// Number of the list: [`super::ServiceOptions::source_list`].
    pub list: u32,
    /// The client's address, wire order; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u32; 4],
}

impl SourceKey {
    /// Bits of a list's number.
    pub const LIST_BITS: u32 = 32;
    /// Bits of a whole key.
    pub const BITS: u32 = Self::LIST_BITS + 128;
    /// Bits of an address that an IPv4 address has in front of it.
    pub const MAPPED_BITS: u32 = 96;
    /// The third word of those.
    const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

    /// `address` is wide (see [`super::Target::addresses`]).
    #[inline(always)]
    pub const fn new(list: u32, v6: bool, address: [u64; 2]) -> Self {
        let [high, low] = address;
        let address = if v6 {
            [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32]
        } else {
            [0, 0, Self::MAPPED, high as u32]
        };
        Self { list, address }
    }
}

/// What becomes of a client's packets; values of map `SOURCES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Access {
    /// They go on.
    Allowed = 1,
    /// They are dropped.
    Denied = 2,
}

const _: () = assert!(size_of::<SourceKey>() == 20);
