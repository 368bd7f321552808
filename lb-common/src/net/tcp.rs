//! TCP's flags, as far as they say where a flow begins and ends.

/// The sender is done.
pub const FIN: u8 = 0x01;
/// A connection begins.
pub const SYN: u8 = 0x02;
/// The connection is no more.
pub const RST: u8 = 0x04;
/// The acknowledgment number counts.
pub const ACK: u8 = 0x10;

/// Whether a packet opens or closes a flow, or does something odd: most do not.
#[inline(always)]
pub const fn concerns_flow(flags: u8) -> bool {
    flags & (SYN | FIN | RST) != 0
}

/// Whether a packet has SYN, with or without ACK.
#[inline(always)]
pub const fn has_syn(flags: u8) -> bool {
    flags & SYN != 0
}

/// Whether a packet has RST.
#[inline(always)]
pub const fn resets(flags: u8) -> bool {
    flags & RST != 0
}

/// Whether a packet opens a flow: a SYN without ACK.
#[inline(always)]
pub const fn opens_flow(flags: u8) -> bool {
    flags & (SYN | ACK) == SYN
}

/// Whether a packet has FIN.
#[inline(always)]
pub const fn has_fin(flags: u8) -> bool {
    flags & FIN != 0
}

/// Whether a packet closes a flow, or a half of it: a FIN or RST.
#[inline(always)]
pub const fn closes_flow(flags: u8) -> bool {
    flags & (FIN | RST) != 0
}
