//! The service tables: (address, protocol, port) → service, in 64-byte lines.
//!
//! A key hashes to a line by one multiplication; the multiplier is chosen in user space so that chains are rare and
//! short. A change is built in the other half of the table, which [`super::TableIndex`] then switches to at once.

use bitflags::bitflags;
use bytemuck::{Pod, Zeroable};

use super::Selector;
use crate::net::{SCTP, TCP, UDP};

/// Longest chain of lines that a look-up follows; user space refuses to build a longer one.
pub const MAX_CHAIN: u32 = 8;

/// A key in whole words: one store each, compared without a byte-wise load.
pub trait ServiceKey: Copy + PartialEq {
    /// All words mixed into one, before the multiplication.
    fn fold(&self) -> u64;
    /// Equality in one branch: a branch a word would multiply the paths that the verifier walks.
    fn same(&self, other: &Self) -> bool;
}

/// IPv4: address (wire order) in the low half, selector in the high half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Key4(pub u64);

impl Key4 {
    /// `address` as on the wire.
    #[inline(always)]
    pub const fn new(address: u32, selector: Selector) -> Self {
        Self(address as u64 | (selector.0 as u64) << 32)
    }
}

impl ServiceKey for Key4 {
    #[inline(always)]
    fn fold(&self) -> u64 {
        self.0
    }

    #[inline(always)]
    fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// IPv6: the address (wire order), then the selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Key6(pub [u64; 3]);

impl Key6 {
    /// `address` as on the wire.
    #[inline(always)]
    pub const fn new(address: [u64; 2], selector: Selector) -> Self {
        Self([address[0], address[1], selector.0 as u64])
    }
}

impl ServiceKey for Key6 {
    #[inline(always)]
    fn fold(&self) -> u64 {
        let [a, b, c] = self.0;
        // The selector is 32 bits: turned up, it meets the address's changing low bits nowhere.
        a ^ b.rotate_left(29) ^ c.rotate_left(13)
    }

    #[inline(always)]
    fn same(&self, other: &Self) -> bool {
        let ([a, b, c], [d, e, f]) = (self.0, other.0);
        (a ^ d) | (b ^ e) | (c ^ f) == 0
    }
}

bitflags! {
    /// Bits of [`ServiceEntry::flags`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
    #[repr(transparent)]
    pub struct ServiceFlags: u16 {
        /// Hash the source address only.
        const CLIENT_IP = 1;
        /// Without usable backends, leave packets to the host.
        const PASS_WHEN_EMPTY = 2;
        /// On a VIP's entry: some service of it speaks TCP.
        const HAS_TCP = 4;
        /// On a VIP's entry: some service of it speaks UDP.
        const HAS_UDP = 8;
        /// All packets take the detour: the service has a source list or `fullnat` backends, or routes by
        /// connection IDs.
        const DETOUR = 16;
        /// Packets with SYN take the detour: their MSS is clamped.
        const DETOUR_SYN = 32;
        /// Some packets take the detour.
        const DETOURS = Self::DETOUR.bits() | Self::DETOUR_SYN.bits();
        /// On a VIP's entry: some service of it speaks SCTP.
        const HAS_SCTP = 64;
        /// Without usable backends, tell clients so.
        const REJECT_WHEN_EMPTY = 128;
        /// What is for the VIP and for no service of it is dropped.
        const DROP_UNSERVED = 256;
        /// What is for the VIP and for no service of it is refused, so that clients know at once. It comes before
        /// [`Self::DROP_UNSERVED`].
        const REJECT_UNSERVED = 512;
        /// What a VIP's entry takes over from the entries of its services.
        const UNSERVED = Self::DROP_UNSERVED.bits() | Self::REJECT_UNSERVED.bits();
        /// Look every flow up in the flow table, and write every new one down. The same bit as [`super::Slot::UNSAFE`], so
        /// that one test finds either.
        const TRACK_ALWAYS = super::Slot::UNSAFE;
    }
}

impl ServiceFlags {
    /// The flag of a VIP some service of which speaks that protocol; none for a protocol that no service can speak.
    #[inline(always)]
    pub const fn speaks(protocol: u8) -> Self {
        match protocol {
            TCP => Self::HAS_TCP,
            UDP => Self::HAS_UDP,
            SCTP => Self::HAS_SCTP,
            _ => Self::empty(),
        }
    }
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ServiceEntry {
    /// First line of the slot table in `SLOTS`; of a VIP's entry, its [`ServiceEntry::block_sizes`].
    pub slot_line: u32,
    /// Slots less one; a table has a power of two of them.
    pub slot_mask: u16,
    /// How to treat its packets.
    pub flags: ServiceFlags,
    /// The service's first target in `TARGETS`; for [`super::Direction::FromBackend`] the backend's own.
    pub target_base: u32,
    /// The service's number in the low half; which of its VIPs this is above it (8 bits).
    pub id: u32,
}

impl ServiceEntry {
    /// [`ServiceEntry::id`] of the `vip`-th VIP of the service of that number.
    pub const fn id_of(number: u16, vip: u8) -> u32 {
        number as u32 | (vip as u32) << 16
    }

    /// Of a VIP's entry: sizes of the blocks of ports that its services are known by, bit n for blocks of `1 << n`.
    #[inline(always)]
    pub const fn block_sizes(&self) -> u32 {
        self.slot_line
    }

    /// The service's number, for counters, flows and traces.
    #[inline(always)]
    pub const fn number(&self) -> u32 {
        self.id & 0xffff
    }

    /// Which of the service's VIPs this is.
    #[inline(always)]
    pub const fn vip(&self) -> u32 {
        self.id >> 16 & 0xff
    }
}

/// A line: `N` keys and what they lead to, and the line where their chain goes on.
///
/// An unused key is all zero, which no packet asks for: every selector names a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct ServiceLine<K, const N: usize, const SPARE: usize> {
    /// The keys.
    pub keys: [K; N],
    /// `services[i]` belongs to `keys[i]`.
    pub services: [ServiceEntry; N],
    /// Index of the next line of the chain; 0 ends it (line 0 continues no chain).
    pub next: u32,
    /// Zero.
    pub spare: [u32; SPARE],
}

/// Keys of a line of `SERVICES4`.
pub const KEYS_PER_LINE_V4: usize = 2;
/// Keys of a line of `SERVICES6`.
pub const KEYS_PER_LINE_V6: usize = 1;
/// A line of map `SERVICES4`.
pub type ServiceLine4 = ServiceLine<Key4, KEYS_PER_LINE_V4, 3>;
/// A line of map `SERVICES6`.
pub type ServiceLine6 = ServiceLine<Key6, KEYS_PER_LINE_V6, 5>;

impl<K: ServiceKey, const N: usize, const SPARE: usize> ServiceLine<K, N, SPARE> {
    /// The service of `key`, if this line holds it.
    #[inline(always)]
    pub fn find(&self, key: &K) -> Option<ServiceEntry> {
        let mut i = 0;
        while i < N {
            if self.keys[i].same(key) {
                return Some(self.services[i]);
            }
            i += 1;
        }
        None
    }
}

/// Follows a chain from line `first` to the line that holds `key`; 0 if none does.
#[inline(always)]
pub fn follow_chain<'t, K: ServiceKey + 't, const N: usize, const SPARE: usize>(
    first: u32,
    key: &K,
    line: impl Fn(u32) -> Option<&'t ServiceLine<K, N, SPARE>>,
) -> u32 {
    let mut index = first;
    for _ in 1..MAX_CHAIN {
        match line(index) {
            Some(line) if line.find(key).is_some() => return index,
            Some(line) if line.next != 0 => index = line.next,
            _ => return 0,
        }
    }
    0
}

const _: () = assert!(size_of::<ServiceEntry>() == 16);
const _: () = assert!(size_of::<ServiceLine4>() == 64 && size_of::<ServiceLine6>() == 64);

// SAFETY: zero is a valid value of every field, and so of the whole.
unsafe impl Zeroable for ServiceLine4 {}
// SAFETY: as above.
unsafe impl Zeroable for ServiceLine6 {}
// SAFETY: `repr(C)` over Pod fields, and their sizes (2 × 8 + 2 × 16 + 4 + 3 × 4) add up to 64: no padding.
unsafe impl Pod for ServiceLine4 {}
// SAFETY: as above (24 + 16 + 4 + 5 × 4 = 64).
unsafe impl Pod for ServiceLine6 {}
