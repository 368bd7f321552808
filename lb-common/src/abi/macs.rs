//! MACs that frames to this host are sent to: what other frames ask for is another host's business.
//!
//! Invariant: what is not known is not refused. Nothing is before the agent has written anything, and nothing of an
//! interface before [`MacKey::known`] is there.

use bytemuck::{Pod, Zeroable};

/// Most entries of map `MACS`.
pub const MAX_MACS: u32 = 16_384;

/// A MAC as a word that is compared with the beginning of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct Mac(pub u64);

impl Mac {
    /// No frame's.
    pub const NONE: Self = Self(1);
    /// The first bit on the wire: a group's rather than a host's.
    const GROUP: u64 = 1 << 16;

    /// That MAC.
    pub const fn new([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self::at_the_start_of(u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// The destination of the frame whose first 8 bytes that word is, as loaded.
    #[inline(always)]
    pub const fn at_the_start_of(word: u64) -> Self {
        Self(word << 16)
    }

    /// Whether it is a group's: several hosts', or all.
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.0 & Self::GROUP != 0
    }
}

/// Key of map `MACS`: a MAC that frames to this host bear where they come in by that interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct MacKey {
    /// Index of the interface.
    pub interface: u64,
    /// The MAC.
    pub mac: Mac,
}

impl MacKey {
    /// That MAC at that interface.
    #[inline(always)]
    pub const fn new(interface: u32, mac: Mac) -> Self {
        Self {
            interface: interface as u64,
            mac,
        }
    }

    /// The entry that says that the interface's are known, all of them.
    #[inline(always)]
    pub const fn known(interface: u32) -> Self {
        Self::new(interface, Mac::NONE)
    }
}

/// The program's data section of that name: MACs that most frames bear, to be read in place, without a look-up. All that
/// is here is in map `MACS`, too, so that half a copy of it does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct OwnMacs {
    /// MACs that are right at every interface, the first one that of most frames; [`Mac::NONE`] where there are no more, and
    /// 0 before anything is known.
    pub common: [Mac; OwnMacs::COMMON],
    /// Interfaces' own, at [`OwnMacs::place`].
    pub own: [MacKey; OwnMacs::PLACES as usize],
}

impl OwnMacs {
    /// So many that are right everywhere: a virtual router of each family, and one more.
    pub const COMMON: usize = 4;
    /// A power of two.
    pub const PLACES: u32 = 16;

    /// Before anything is known.
    pub const UNKNOWN: Self = Self {
        common: [Mac(0); Self::COMMON],
        own: [MacKey::new(0, Mac(0)); Self::PLACES as usize],
    };

    /// Where the own MAC of an interface is, if it is there.
    #[inline(always)]
    pub const fn place(interface: u32) -> u32 {
        interface & (Self::PLACES - 1)
    }
}

const _: () = assert!(size_of::<MacKey>() == 16 && size_of::<OwnMacs>() == 288);
