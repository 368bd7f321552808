//! What is told of a packet beside its reason.

use crate::{abi::Trace, net::tcp};

/// What the counters and `lb explain` need to know of a packet beside its [`crate::abi::Reason`]. Whole words, so that it
/// can be built on a BPF program's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Outcome {
    /// Interface to send out of, if it is sent; 0 for the one that it came in by.
    pub egress: u32,
    /// [`crate::abi::ServiceEntry::id`] or [`Trace::NONE`]; see [`Outcome::service_number`].
    pub service: u32,
    /// Slot within the service's table or [`Trace::NONE`].
    pub slot: u32,
    /// Index of the target or [`Trace::NONE`].
    pub target: u32,
    /// Length of the IP packet as it came in.
    pub bytes: u32,
    /// TCP's flags, or what says the same of a flow of another protocol; mostly 0 then.
    pub tcp_flags: u16,
    /// A [`crate::abi::Placement`]'s number.
    pub placement: u16,
}

impl Outcome {
    /// Before anything is decided.
    pub const UNDECIDED: Self = Self {
        egress: 0,
        service: Trace::NONE,
        slot: Trace::NONE,
        target: Trace::NONE,
        bytes: 0,
        tcp_flags: 0,
        placement: 0,
    };

    /// Has it leave by that interface; 0 stands for `ingress`, the one that it came in by.
    #[inline(always)]
    pub(super) const fn leave_by(&mut self, interface: u32, ingress: u32) {
        if interface != 0 && interface != ingress {
            self.egress = interface;
        }
    }

    /// The number of the service, or [`Trace::NONE`].
    #[inline(always)]
    pub const fn service_number(&self) -> u32 {
        if self.service == Trace::NONE {
            Trace::NONE
        } else {
            self.service & 0xffff
        }
    }

    /// Whether the packet opens or closes a flow, or does something odd: most do not.
    #[inline(always)]
    pub const fn concerns_flow(&self) -> bool {
        tcp::concerns_flow(self.tcp_flags as u8)
    }

    /// Whether the packet opens a flow: a TCP SYN without ACK.
    #[inline(always)]
    pub const fn opens_flow(&self) -> bool {
        tcp::opens_flow(self.tcp_flags as u8)
    }

    /// Whether the packet ends a flow, or a half of it.
    #[inline(always)]
    pub const fn closes_flow(&self) -> bool {
        tcp::closes_flow(self.tcp_flags as u8)
    }
}
