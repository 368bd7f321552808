//! What gives the other tables their meaning: a dataplane that outlives its agent says so itself.
//!
//! Invariant: size, magic number and the place of the version stay the same in all versions to come, so that every
//! version can tell which one made a dataplane.

use bytemuck::{Pod, Zeroable};

use super::ABI_VERSION;

/// The one entry of map `META`, written when the maps are made. The program does not read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Meta {
    /// [`Meta::MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`] of the agent that made the maps.
    pub abi_version: u32,
    /// The flow clock is the kernel's jiffies shifted right by this; ages in the flow table are in its units.
    pub clock_shift: u32,
    /// Seed of the flow hash: the slot tables place flows as hashed under it.
    pub seed: u64,
    /// Most services.
    pub services: u32,
    /// Most targets.
    pub targets: u32,
    /// Most slots.
    pub slots: u32,
    /// Most entries of the flow table.
    pub flows: u32,
    /// The network namespace that its interfaces are in, as the inode of `/proc/PID/ns/net`.
    pub namespace: u64,
    /// Most flows through `fullnat`.
    pub nat_flows: u32,
    /// 0; room for later versions.
    pub reserved: [u32; 3],
}

impl Meta {
    /// "lb-meta" and a zero, as the bytes lie in memory on a little-endian machine.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"lb-meta\0");

    /// Of this version of the tables; all sizes are 0.
    pub const EMPTY: Self = Self {
        magic: Self::MAGIC,
        abi_version: ABI_VERSION,
        clock_shift: 0,
        seed: 0,
        services: 0,
        targets: 0,
        slots: 0,
        flows: 0,
        namespace: 0,
        nat_flows: 0,
        reserved: [0; 3],
    };
}

const _: () = assert!(size_of::<Meta>() == 64);
