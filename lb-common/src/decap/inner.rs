//! The packet inside: whether it is one, and what it takes over from the outer header.

use crate::net::{
    Bytes, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_HEADER, IPV6_HEADER,
    checksum::{adjusted, delta},
    load16, store16,
};

use super::{Reason, ecn, tunnel::TunnelContent};

/// The packet inside.
pub(super) struct Inner {
    /// Where it begins in the frame.
    pub(super) at: usize,
    v6: bool,
}

impl Inner {
    /// # Errors
    /// When it contradicts itself or what carries it.
    #[inline(always)]
    pub(super) fn read<B: Bytes>(frame: &B, content: &TunnelContent) -> Result<Self, Reason> {
        let TunnelContent { at, end, v6 } = *content;
        // The smaller of both headers: what is said of lengths is in it.
        let header: &[u8; IPV4_HEADER] = frame.view(at).ok_or(Reason::BadInner)?;
        let is_v6 = match header[0] >> 4 {
            4 => false,
            6 => true,
            _ => return Err(Reason::BadInner),
        };
        let (header_len, len) = if is_v6 {
            (
                IPV6_HEADER,
                IPV6_HEADER + usize::from(u16::from_be(load16(header, 4))),
            )
        } else {
            let header_len = usize::from(header[0] & 15) * 4;
            (header_len, usize::from(u16::from_be(load16(header, 2))))
        };
        if v6.is_some_and(|v6| v6 != is_v6) || header_len < IPV4_HEADER || len < header_len || at + len > end
        {
            return Err(Reason::BadInner);
        }
        Ok(Self { at, v6: is_v6 })
    }

    /// Its EtherType, as a word on the wire.
    #[inline(always)]
    pub(super) const fn ether_type(&self) -> u16 {
        if self.v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }
    }

    /// Lets it know of congestion that the outer header of that type of service has met (RFC 6040 §4.2).
    ///
    /// # Errors
    /// When it must be dropped for that, as its sender would not understand.
    #[inline(always)]
    pub(super) fn take_over_congestion<B: Bytes>(&self, frame: &mut B, tos: u8) -> Result<(), Reason> {
        let header: &mut [u8; IPV4_HEADER] = frame.view_mut(self.at).ok_or(Reason::BadInner)?;
        // IPv6 has the traffic class four bits earlier.
        let shift = if self.v6 { 4 } else { 0 };
        let old = header[1] >> shift & ecn::MASK;
        let new = ecn::decapsulated(old, tos & ecn::MASK).ok_or(Reason::Congestion)?;
        if new == old {
            return Ok(());
        }
        let before = load16(header, 0);
        header[1] = header[1] & !(ecn::MASK << shift) | new << shift;
        if !self.v6 {
            let change = delta(u32::from(before), u32::from(load16(header, 0)));
            let checksum = adjusted(load16(header, 10), change);
            store16(header, 10, checksum);
        }
        Ok(())
    }
}
