//! The VLAN tags that frames to a target carry.

use bytemuck::{Pod, Zeroable};

use crate::net::{ETHERTYPE_VLAN, ETHERTYPE_VLAN_OUTER};

/// Map `TAGS`, mmap-able, indexed like `TARGETS`; read of targets with [`super::TargetEntry::tags`] only. Each word is a tag
/// as it stands in a frame (EtherType, then VLAN identifier). A single one is the second, so that whatever their number
/// they end where the EtherType of the packet begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct TagsEntry(pub [u32; 2]);

impl TagsEntry {
    /// An untagged frame.
    pub const NONE: Self = Self([0; 2]);

    /// One tag of IEEE 802.1Q.
    pub const fn one(vlan: u16) -> Self {
        Self([0, Self::tag(ETHERTYPE_VLAN, vlan)])
    }

    /// Two tags: the outer one of IEEE 802.1ad.
    pub const fn two(outer: u16, inner: u16) -> Self {
        Self([
            Self::tag(ETHERTYPE_VLAN_OUTER, outer),
            Self::tag(ETHERTYPE_VLAN, inner),
        ])
    }

    /// The tag of that EtherType (as on the wire), with priority 0.
    pub const fn tag(ether_type: u16, vlan: u16) -> u32 {
        let [a, b] = ether_type.to_ne_bytes();
        let [c, d] = (vlan & 0xfff).to_be_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }

    /// Whether there are none.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0[1] == 0
    }

    /// The bytes that they take in a frame: 0, 4 or 8.
    #[inline(always)]
    pub const fn bytes(self) -> u8 {
        match self.0 {
            [0, 0] => 0,
            [0, _] => 4,
            _ => 8,
        }
    }
}

const _: () = assert!(size_of::<TagsEntry>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_laid_out_as_on_the_wire() {
        assert_eq!(
            bytemuck::bytes_of(&TagsEntry::one(100)),
            [0, 0, 0, 0, 0x81, 0, 0, 100]
        );
        let two = TagsEntry::two(4094, 1);
        assert_eq!(bytemuck::bytes_of(&two), [0x88, 0xa8, 0x0f, 0xfe, 0x81, 0, 0, 1]);
        assert_eq!(
            [TagsEntry::NONE, TagsEntry::one(1), two].map(TagsEntry::bytes),
            [0, 4, 8]
        );
    }
}
