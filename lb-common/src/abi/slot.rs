//! Slot tables: hash → backend, two bytes a slot, so that a big table still fits the cache.

use bytemuck::{Pod, Zeroable};

/// Slots of one 64-byte line.
pub const SLOTS_PER_LINE: u32 = 32;

/// One slot: the owner's index within its service's targets (15 bits) and the unsafe flag (the highest bit), which
/// says that the owner changed of late and that flows may still belong to the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a service without usable backends.
    pub const NONE: Self = Self(0x7fff);
    /// The flag of a migrating slot.
    pub const UNSAFE: u16 = 1 << 15;

    /// A stable slot owned by the service's `owner`-th target.
    pub const fn owned_by(owner: u16) -> Self {
        Self(owner & !Self::UNSAFE)
    }

    /// Whether the owner changed of late.
    #[inline(always)]
    pub const fn is_migrating(self) -> bool {
        self.0 & Self::UNSAFE != 0
    }

    /// Of an entry of `PREVIOUS`: whether its owner is the slot's home. It is out, and the current owner stands in for it.
    #[inline(always)]
    pub const fn is_lent(self) -> bool {
        self.is_migrating()
    }

    /// A slot of the same owner, with or without the unsafe flag.
    pub const fn with_flag(self, is_migrating: bool) -> Self {
        if is_migrating {
            Self(self.0 | Self::UNSAFE)
        } else {
            Self(self.0 & !Self::UNSAFE)
        }
    }

    /// The owner's index within the service's targets; `None` when the service has no usable backend.
    #[inline(always)]
    pub const fn owner(self) -> Option<u32> {
        let owner = self.0 & !Self::UNSAFE;
        if owner == Self::NONE.0 {
            None
        } else {
            Some(owner as u32)
        }
    }
}

/// Maps `SLOTS` and `PREVIOUS`, mmap-able: a table is a run of whole lines. In `PREVIOUS` lies the owner that flows
/// of a migrating slot belong to unless the flow table says otherwise. With the flag ([`Slot::is_lent`]) it is the owner
/// that gets the slot back: unknown flows belong to the current one, and those that open there are written down. Of a
/// stable slot packets do not ask, and without the flag it means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct SlotLine(pub [Slot; SLOTS_PER_LINE as usize]);

const _: () = assert!(size_of::<SlotLine>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unsafe_flag_hides_no_owner() {
        for owner in [0, 1, 0x7ffe] {
            let slot = Slot::owned_by(owner);
            assert_eq!(slot.owner(), Some(u32::from(owner)));
            assert_eq!(Slot(slot.0 | Slot::UNSAFE).owner(), Some(u32::from(owner)));
        }
        assert_eq!(Slot::NONE.owner(), None);
        assert_eq!(Slot(Slot::NONE.0 | Slot::UNSAFE).owner(), None);
    }
}
