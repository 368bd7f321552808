//! Interfaces as frames meet them, and the addresses in whose name they speak.

use bytemuck::{Pod, Zeroable};

use super::TagsEntry;

/// Most entries of map `UPPERS`.
pub const MAX_UPPERS: u32 = 1024;

/// Map `UPPERS`, by interface index. A VLAN device is the interface that it lies on, and tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct DeviceEntry {
    /// The interface that its frames leave through: itself, or what it lies on.
    pub interface: u32,
    /// An IPv4 address of its own, wire order; 0 if it has none.
    pub v4: u32,
    /// The tags that its frames carry.
    pub tags: TagsEntry,
    /// An IPv6 address of its own, wire order; 0 if it has none.
    pub v6: [u64; 2],
}

impl DeviceEntry {
    /// Its address of IPv6 or IPv4, wide (see [`super::TargetEntry::addresses`]); `None` if it has none.
    #[inline(always)]
    pub const fn own_address(&self, v6: bool) -> Option<[u64; 2]> {
        let address = if v6 { self.v6 } else { [self.v4 as u64, 0] };
        if address[0] | address[1] == 0 {
            None
        } else {
            Some(address)
        }
    }
}

const _: () = assert!(size_of::<DeviceEntry>() == 32);
