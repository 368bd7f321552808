//! A target is one backend of one service: everything needed to rewrite a packet toward it, in one cache line.

use bytemuck::{Pod, Zeroable};
use open_enum::open_enum;

/// How a target's packets are rewritten.
#[open_enum]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(u8)]
pub enum Forward {
    /// The next hop is not known: drop.
    Unresolved = 0,
    /// Destination MAC only.
    L2dsr = 1,
    /// Outer IPv4 header.
    Ipip4 = 2,
    /// Outer IPv6 header.
    Ipip6 = 3,
    /// Destination address and port.
    Nat = 4,
    /// Outer IPv4 and UDP headers, and one of GUE.
    Gue4 = 5,
    /// Outer IPv6 and UDP headers, and one of GUE.
    Gue6 = 6,
    /// Outer IPv4 and UDP headers.
    Fou4 = 7,
    /// Outer IPv6 and UDP headers.
    Fou6 = 8,
    /// Outer IPv4 and GRE headers.
    Gre4 = 9,
    /// Outer IPv6 and GRE headers.
    Gre6 = 10,
    /// Both addresses and both ports.
    FullNat = 11,
    /// None: the backend is this host.
    Local = 12,
}

impl Forward {
    /// [`TargetEntry::untagged_forward`] of a target without tags.
    #[inline(always)]
    pub const fn untagged(self) -> u16 {
        self.0 as u16
    }
}

/// Map `TARGETS`, mmap-able. All zero is an unresolved target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct TargetEntry {
    /// Destination MAC and the first two bytes of the source MAC, as on the wire.
    pub macs_head: u64,
    /// The rest of the source MAC.
    pub macs_tail: u32,
    /// How its packets are rewritten.
    pub forward: Forward,
    /// Bytes of VLAN tags that frames to the backend carry: 0, or 4 or 8 from map `TAGS`.
    pub tags: u8,
    /// `nat`: the service's port (wire order), restored in answers; 0 when ports are not translated.
    pub vip_port: u16,
    /// Addresses, wire order, two words each (IPv4 in the first half of the first word).
    /// Tunnels: outer source, outer destination. `nat`: backend, VIP. `fullnat`: backend.
    pub addresses: [[u64; 2]; 2],
    /// Tunnels over IPv4: sum of the outer header's constant words. `nat` over IPv4: what to add to the sum of the IP
    /// header. One's complement, native words over wire bytes (RFC 1071 §2.B).
    pub header_sum: u32,
    /// Tunnels: which bits of the outer source's last 32 vary with the flow, wire order. `nat`: what to add to the
    /// transport's sum.
    pub variation: u32,
    /// Interface to send out of; 0 means the one that the packet came in by.
    pub egress: u32,
    /// Largest IP packet (before the rewrite) that the way to the backend carries.
    pub max_len: u16,
    /// `nat` and `fullnat`: the backend's port (wire order); 0 leaves the port as it is. `gue` and `fou`: the outer destination port
    /// (wire order).
    pub backend_port: u16,
}

impl TargetEntry {
    /// Its forwarder as a number, in one word with what says that there are tags: with tags it is no forwarder's.
    #[inline(always)]
    pub const fn untagged_forward(&self) -> u16 {
        self.forward.untagged() | (self.tags as u16) << 8
    }

    /// Index into [`TargetEntry::addresses`]: outer source of a tunnel.
    pub const OUTER_SOURCE: usize = 0;
    /// Outer destination of a tunnel.
    pub const OUTER_DESTINATION: usize = 1;
    /// The backend of a `nat` or `fullnat` target.
    pub const BACKEND: usize = 0;
    /// The VIP of a `nat` target.
    pub const VIP: usize = 1;
}

const _: () = assert!(size_of::<TargetEntry>() == 64);
