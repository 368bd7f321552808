//! IP headers and IPv6 extension headers, as RFC 791, 8200 and 4302 have them.

use std::net::IpAddr;

use lb_common::abi::Reason;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6ExtHeader, Ipv6FragmentHeader, Ipv6Packet};

/// AH (RFC 4302), whose length counts words of 4 bytes.
const AH: IpProtocol = IpProtocol::IpSecAh;
/// Limits of the walk over extension headers.
const MAX_HEADERS: usize = 8;
const MAX_BYTES: usize = 256;

/// What an IP header says before its payload has been looked at.
pub(super) struct Header {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    pub(super) len: usize,
    pub(super) next: IpProtocol,
    /// Its own length.
    pub(super) own: usize,
    pub(super) wrong: Option<Reason>,
    /// IPv4's: identification, offset, whether more follow.
    pub(super) fragment: (u32, usize, bool),
}

/// The IPv4 header at the beginning of `bytes`, if it is there.
pub(super) fn ipv4_header(bytes: &[u8]) -> Option<Header> {
    if bytes.len() < 20 {
        return None;
    }
    let ip = Ipv4Packet::new_unchecked(bytes);
    let (own, len) = (usize::from(ip.header_len()), usize::from(ip.total_len()));
    Some(Header {
        source: ip.src_addr().into(),
        destination: ip.dst_addr().into(),
        ttl: ip.hop_limit(),
        len,
        next: ip.next_header(),
        own,
        wrong: if ip.version() != 4 || own < 20 || len < own {
            Some(Reason::BadHeader)
        } else {
            (len > bytes.len()).then_some(Reason::Truncated)
        },
        fragment: (
            u32::from(ip.ident()),
            usize::from(ip.frag_offset()),
            ip.more_frags(),
        ),
    })
}

/// The IPv6 header, likewise.
pub(super) fn ipv6_header(bytes: &[u8]) -> Option<Header> {
    if bytes.len() < 40 {
        return None;
    }
    let ip = Ipv6Packet::new_unchecked(bytes);
    let len = ip.total_len();
    Some(Header {
        source: ip.src_addr().into(),
        destination: ip.dst_addr().into(),
        ttl: ip.hop_limit(),
        len,
        next: ip.next_header(),
        own: 40,
        // No IP packet of the balancer's is longer than 64 KiB, headers included.
        wrong: if ip.version() != 6 || len > 0xffff {
            Some(Reason::BadHeader)
        } else {
            (len > bytes.len()).then_some(Reason::Truncated)
        },
        fragment: (0, 0, false),
    })
}

/// What is behind the extension headers.
pub(super) struct Walked {
    pub(super) protocol: IpProtocol,
    pub(super) at: usize,
    /// Identification, offset, whether more follow, and where the fragment's bytes begin.
    pub(super) fragment: Option<(u32, usize, bool, usize)>,
}

/// Walks over the extension headers of an IPv6 packet that ends at `end`.
pub(super) fn walk(bytes: &[u8], first: IpProtocol, end: usize) -> Result<Walked, Reason> {
    let (mut protocol, mut at) = (first, 40);
    let (mut fragment, mut is_fragment) = (None, false);
    for _ in 0..=MAX_HEADERS {
        let is_later = matches!(fragment, Some((_, 1.., _, _)));
        let is_extension = matches!(
            protocol,
            IpProtocol::HopByHop | IpProtocol::Ipv6Route | IpProtocol::Ipv6Frag | IpProtocol::Ipv6Opts | AH
        );
        if is_later || !is_extension {
            return if at > end {
                Err(Reason::Truncated)
            } else {
                Ok(Walked {
                    protocol,
                    at,
                    fragment,
                })
            };
        }
        if at + 8 > end || at + 8 > bytes.len() {
            // RFC 7112 §5: a first fragment holds all of them.
            return Err(if is_fragment {
                Reason::BadFragment
            } else {
                Reason::Truncated
            });
        }
        let header = Ipv6ExtHeader::new_unchecked(&bytes[at..]);
        let units = usize::from(header.header_len());
        let len = match protocol {
            IpProtocol::Ipv6Frag if is_fragment => return Err(Reason::BadFragment),
            IpProtocol::Ipv6Frag => {
                is_fragment = true;
                let header = Ipv6FragmentHeader::new_unchecked(&bytes[at + 2..]);
                let (start, more) = (usize::from(header.frag_offset()) * 8, header.more_frags());
                // RFC 6946: a fragment that is the whole packet is none.
                fragment = (start != 0 || more).then_some((header.ident(), start, more, at + 8));
                8
            }
            AH => (units + 2) * 4,
            // With segments left, the destination is not the packet's last (RFC 8200 §4.4).
            IpProtocol::Ipv6Route if bytes[at + 3] != 0 => return Err(Reason::ExtensionHeader),
            _ => (units + 1) * 8,
        };
        protocol = header.next_header();
        at += len;
        if at > 40 + MAX_BYTES {
            return Err(Reason::ExtensionHeader);
        }
    }
    Err(Reason::ExtensionHeader)
}
