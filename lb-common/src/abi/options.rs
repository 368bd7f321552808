//! What only the detour needs to know of a service.

use bytemuck::{Pod, Zeroable};
use open_enum::open_enum;

/// Map `OPTIONS`, mmap-able, indexed by [`super::ServiceEntry::number`]. All zero are the defaults. Words change one by one
/// while packets flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct OptionsEntry {
    /// The list in map `SOURCES` that allows and denies clients; 0 for none.
    pub source_list: u32,
    /// Index of its configurations in map `QUIC`, and 1; 0 without any.
    pub quic: u32,
    /// Largest MSS of a SYN over IPv4; 0 leaves it.
    pub mss4: u16,
    /// Largest MSS of a SYN over IPv6; 0 leaves it.
    pub mss6: u16,
    /// What becomes of fragments.
    pub fragments: FragmentMode,
    /// What becomes of packets whose TTL or hop limit ends here.
    pub ttl_expired: TtlExpiredMode,
    /// Zero.
    pub spare: [u8; 2],
    /// Zero.
    pub reserved: [u32; 12],
}

/// What becomes of fragments.
#[open_enum]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(u8)]
pub enum FragmentMode {
    /// Later ones follow the first.
    Follow = 0,
    /// All of them go by their addresses alone, whatever their order.
    Hash3 = 1,
    /// Dropped.
    Drop = 2,
}

/// What becomes of packets whose TTL or hop limit ends here.
#[open_enum]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(u8)]
pub enum TtlExpiredMode {
    /// The sender is told.
    Answer = 0,
    /// Dropped.
    Drop = 1,
}

const _: () = assert!(size_of::<OptionsEntry>() == 64);
