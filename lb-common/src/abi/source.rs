//! Lists of clients that may use a service, and of those that may not.

use bytemuck::{Pod, Zeroable};
use open_enum::open_enum;

/// Most prefixes of all lists together. Map `SOURCES` holds twice as many: a list is replaced by another one, not changed.
pub const MAX_SOURCES: u32 = 65_536;

/// What entries of map `SOURCES` are found by, the longest that agrees: a trie of prefixes (`BPF_MAP_TYPE_LPM_TRIE`) whose
/// first bits are list and family. Every list has an entry of no other bits for each family: for clients that it does not
/// name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct AclKey {
    /// Twice the number of the list ([`super::OptionsEntry::source_list`]), and 1 of IPv6.
    list_and_family: u32,
    /// The client's address, wire order; an IPv4 address is the first word.
    address: [u32; 4],
}

impl AclKey {
    /// Bits of list and family.
    pub const LIST_BITS: u32 = 32;
    /// Bits of a whole key.
    pub const BITS: u32 = Self::LIST_BITS + 128;
    /// Greatest number of a list.
    pub const LAST_LIST: u32 = u32::MAX >> 1;

    /// `address` is wide (see [`super::TargetEntry::addresses`]).
    #[inline(always)]
    pub const fn new(list: u32, v6: bool, address: [u64; 2]) -> Self {
        let [high, low] = address;
        Self {
            list_and_family: list << 1 | v6 as u32,
            address: [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32],
        }
    }

    /// The list's number.
    pub const fn list(&self) -> u32 {
        self.list_and_family >> 1
    }

    /// The key of the same address in another list.
    #[must_use]
    pub const fn of_list(self, list: u32) -> Self {
        let family = self.list_and_family & 1;
        Self {
            list_and_family: list << 1 | family,
            ..self
        }
    }

    /// Whether that many bits of both are the same.
    pub fn agrees(&self, other: &Self, bits: u32) -> bool {
        // Most significant bit first: addresses are as on the wire, and of the first word all bits or none count.
        let words = |key: &Self| {
            let [a, b, c, d] = key.address.map(u32::from_be);
            [key.list_and_family, a, b, c, d]
        };
        let masked = |i: usize, word: u32| {
            let ignored = 32 - bits.saturating_sub(32 * i as u32).min(32);
            word.checked_shr(ignored).unwrap_or(0)
        };
        let pairs = words(self).into_iter().zip(words(other)).enumerate();
        pairs.fold(true, |same, (i, (a, b))| same && masked(i, a) == masked(i, b))
    }
}

/// What becomes of a client's packets; values of map `SOURCES`.
#[open_enum]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(u32)]
pub enum AclVerdict {
    /// They go on.
    Allowed = 1,
    /// They are dropped.
    Denied = 2,
}

const _: () = assert!(size_of::<AclKey>() == 20);
