//! How `lb explain` asks the loaded program what it did, without a trace in counters.
//!
//! The asker runs the program through `BPF_PROG_TEST_RUN` with this record as XDP metadata in front of the frame.
//! A packet that carries it is not counted; the record is filled in instead. Frames from a wire never do: metadata is
//! set by the driver or an earlier program, not by the sender.

use bytemuck::{Pod, Zeroable};

/// The metadata of an explained packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Trace {
    /// [`Trace::MAGIC`].
    pub magic: u32,
    /// The [`super::Reason`]'s number.
    pub reason: u32,
    /// [`super::ServiceEntry::id`] or [`Trace::NONE`].
    pub service: u32,
    /// Index in `TARGETS` or [`Trace::NONE`].
    pub target: u32,
    /// Slot within the service's table or [`Trace::NONE`].
    pub slot: u32,
    /// Interface to send out of; 0 for the one it came in by.
    pub egress: u32,
    /// A [`super::Placement`]'s number.
    pub placement: u32,
    /// What the flow clock said.
    pub clock: u32,
}

impl Trace {
    /// Marks a packet to be explained.
    pub const MAGIC: u32 = 0x6c62_3f31;
    /// Nothing of that kind was decided.
    pub const NONE: u32 = u32::MAX;
}

const _: () = assert!(size_of::<Trace>() == 32);
