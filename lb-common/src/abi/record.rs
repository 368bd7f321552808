//! What an agent must know of the tables that packets do not say: which service a run of targets belongs to, and
//! which backend each of them is. Only agents read and write these maps; they lie beside the tables so that they live
//! as long.
//!
//! Invariant: a record is written before anything leads packets to what it is about, and half of one is never taken
//! for a whole. A record does not say that packets are led there: that is for the service tables and the slots, so
//! that an outdated record does no harm.

use bytemuck::{Pod, Zeroable};

/// Bytes of a service's name in a [`PoolEntry`].
pub const NAME_BYTES: usize = 64;
/// Places that a [`PoolEntry`] holds.
pub const PLACES: usize = 3;

/// Map `POOLS`, mmap-able, indexed by [`super::ServiceEntry::number`]. All zero says that the number was never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct PoolEntry {
    /// The service's name in ASCII, zeros behind it.
    pub name: [u8; NAME_BYTES],
    /// Where it lies, in no order: where the IPv4 table leads to, where the IPv6 table leads to, and where both will,
    /// which are one and the same but for the time of a change. A new place is written over one that no table leads
    /// to.
    pub locations: [PoolLocation; PLACES],
    /// 1 for the IPv6 part of a `nat` service, else 0.
    pub v6_part: u32,
    /// 1 if it was written.
    pub used: u32,
}

/// A pool's cells. All zero is no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct PoolLocation {
    /// First cell in `TARGETS`.
    pub target: u32,
    /// Number of cells.
    pub targets: u32,
    /// First line in `SLOTS`.
    pub slot_line: u32,
    /// Number of slots.
    pub slots: u32,
    /// Number of the plan that chose it: of two places of a pool, the one with the greater number is the newer.
    pub serial: u64,
}

/// Map `CELLS`, mmap-able, indexed like `TARGETS`: whose the cell is. It is nobody's while its serial is 0, which is
/// the first word to be cleared and the last to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct CellEntry {
    /// The backend's address, wire order; IPv4 as `::ffff:a.b.c.d`. `::` says that the backend is gone, and that flows
    /// may still name the cell.
    pub address: [u8; 16],
    /// The backend's port (wire order), if that is not the service's, or 0.
    pub port: u16,
    /// [`super::ServiceEntry::number`] of its service.
    pub number: u16,
    /// Zero.
    pub spare: u32,
    /// Number of the plan that gave it the cell: of two cells of one backend, the one with the greater number is in
    /// use.
    pub serial: u64,
}

const _: () = assert!(size_of::<PoolLocation>() == 24);
const _: () = assert!(size_of::<PoolEntry>() == 144);
const _: () = assert!(size_of::<CellEntry>() == 32 && core::mem::offset_of!(CellEntry, serial) == 24);
