//! Next hops of answers to clients, as the kernel's FIB named them.

use bytemuck::{Pod, Zeroable};

/// Most entries of map `NEXT_HOPS`.
pub const MAX_NEXT_HOPS: u32 = 1024;

/// Key of map `NEXT_HOPS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct NextHopKey {
    /// Its address, wide (see [`super::TargetEntry::addresses`]).
    pub address: [u64; 2],
    /// The interface that it is on.
    pub interface: u32,
    /// `AF_INET` or `AF_INET6`.
    pub family: u32,
}

const _: () = assert!(size_of::<NextHopKey>() == 24);
