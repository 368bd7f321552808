//! What the flow table is asked, and what it answers.

use crate::{
    abi::{FlowKey, Placement, Slot},
    net::tcp,
};

/// A packet in a migrating slot, or of a service that tracks all flows. Few words, so that a BPF function can take it.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The flow.
    pub key: FlowKey,
    /// [`crate::abi::ServiceEntry::id`].
    pub service: u32,
    /// The slot as it was read in the low half, TCP's flags above it, and the `IS_*` bits.
    pub packet: u32,
    /// Index of the slot in `SLOTS`, and of its previous owner in `PREVIOUS`.
    pub slot_index: u32,
}

impl Query {
    /// No owner.
    pub const NOBODY: u32 = 0x7fff;
    /// The service tracks all flows.
    pub const IS_ALWAYS: u32 = 1 << 24;
    /// It is only asked what would become of the packet: nothing may change.
    pub const IS_EXPLAINED: u32 = 1 << 25;

    /// [`Query::packet`] of a packet with those flags in that slot.
    #[inline(always)]
    pub const fn packet(slot: Slot, tcp_flags: u8) -> u32 {
        slot.0 as u32 | (tcp_flags as u32) << 16
    }

    pub(super) const fn is(&self, bit: u32) -> bool {
        self.packet & bit != 0
    }

    pub(super) const fn tcp_flags(&self) -> u8 {
        (self.packet >> 16) as u8
    }

    pub(super) const fn opens(&self) -> bool {
        tcp::opens_flow(self.tcp_flags())
    }

    pub(super) const fn resets(&self) -> bool {
        tcp::resets(self.tcp_flags())
    }

    pub(super) const fn has_fin(&self) -> bool {
        tcp::has_fin(self.tcp_flags())
    }

    pub(super) const fn current(&self) -> u32 {
        self.packet & 0x7fff
    }
}

/// Where a packet goes: the owner's index within its service's targets, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected(pub u32);

impl Selected {
    pub(super) const fn new(owner: u32, placement: Placement) -> Self {
        Self(owner & 0x7fff | (placement.number() as u32) << 16)
    }

    /// The owner; [`Query::NOBODY`] for none.
    pub const fn owner(self) -> u32 {
        self.0 & 0x7fff
    }

    /// A [`Placement`]'s number.
    pub const fn placement(self) -> u16 {
        (self.0 >> 16) as u16
    }
}
