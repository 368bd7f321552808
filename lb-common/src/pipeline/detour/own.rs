//! Packets of the balancer's own making: their IP headers, and checksums made from nothing.

use crate::net::{checksum, store16, store32, store64};

use super::super::{
    Packet,
    family::{Family, V4, V6},
};

/// TTL and hop limit.
const TTL: u8 = 64;
/// Type of service: network control (RFC 1812 §4.3.2.5 of ICMP errors).
const TOS: u8 = 0xc0;

/// What an IP header of the balancer's own says.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnHeader<A> {
    pub(super) source: A,
    pub(super) destination: A,
    pub(super) protocol: u8,
    /// Length of what follows the header.
    pub(super) len: u16,
}

/// An address family in which the balancer speaks for itself.
pub(super) trait ReplyFamily: Family {
    /// Writes an IP header without options at `at`.
    fn write_own<P: Packet>(packet: &mut P, at: usize, own: &OwnHeader<Self::Address>) -> Option<()>;
    /// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1).
    fn pseudo_sum(own: &OwnHeader<Self::Address>) -> u64;
}

impl ReplyFamily for V4 {
    #[inline(always)]
    fn write_own<P: Packet>(packet: &mut P, at: usize, own: &OwnHeader<u32>) -> Option<()> {
        const DONT_FRAGMENT: u64 = 0x4000_u16.to_be() as u64;
        let total = own.len.wrapping_add(Self::HEADER as u16).to_be();
        let version_tos = 0x45 | u16::from(TOS) << 8;
        let ttl_protocol = u16::from(TTL) | u16::from(own.protocol) << 8;
        let sum = u64::from(version_tos)
            + u64::from(total)
            + DONT_FRAGMENT
            + u64::from(ttl_protocol)
            + u64::from(own.source)
            + u64::from(own.destination);
        let header: &mut [u8; 20] = packet.view_mut(at)?;
        store64(
            header,
            0,
            u64::from(version_tos) | u64::from(total) << 16 | DONT_FRAGMENT << 48,
        );
        store16(header, 8, ttl_protocol);
        store16(header, 10, checksum::of(sum));
        store32(header, 12, own.source);
        store32(header, 16, own.destination);
        Some(())
    }

    #[inline(always)]
    fn pseudo_sum(own: &OwnHeader<u32>) -> u64 {
        let protocol = u16::from(own.protocol).to_be();
        u64::from(own.source) + u64::from(own.destination) + u64::from(protocol) + u64::from(own.len.to_be())
    }
}

impl ReplyFamily for V6 {
    #[inline(always)]
    fn write_own<P: Packet>(packet: &mut P, at: usize, own: &OwnHeader<[u64; 2]>) -> Option<()> {
        let first = (0x6000_0000 | u32::from(TOS) << 20).to_be();
        let header: &mut [u8; 40] = packet.view_mut(at)?;
        store64(
            header,
            0,
            u64::from(first)
                | u64::from(own.len.to_be()) << 32
                | u64::from(own.protocol) << 48
                | u64::from(TTL) << 56,
        );
        store64(header, 8, own.source[0]);
        store64(header, 16, own.source[1]);
        store64(header, 24, own.destination[0]);
        store64(header, 32, own.destination[1]);
        Some(())
    }

    #[inline(always)]
    fn pseudo_sum(own: &OwnHeader<[u64; 2]>) -> u64 {
        let ([a, b], [c, d]) = (own.source, own.destination);
        let words = [a, b, c, d].map(|word| (word & 0xffff_ffff) + (word >> 32));
        let protocol = u16::from(own.protocol).to_be();
        words[0] + words[1] + words[2] + words[3] + u64::from(protocol) + u64::from(own.len.to_be())
    }
}
