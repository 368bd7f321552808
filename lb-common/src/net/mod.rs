//! Bytes on the wire: wide loads and stores, checksums, and the numbers that RFCs fix.

mod bytes;
pub mod checksum;
pub mod sctp;
pub mod tcp;
mod wide;

use network_types::{eth::EtherType, ip::IpProto};

pub use bytes::{Bytes, sum};
pub use wide::{load16, load32, load64, store16, store32, store64};

/// Length of both MAC addresses of an Ethernet header.
pub const MACS: usize = 12;
/// Length of an Ethernet header without tags.
pub const ETHERNET: usize = 14;
/// Length of a VLAN tag.
pub const VLAN_TAG: usize = 4;
/// Length of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header without extension headers.
pub const IPV6_HEADER: usize = 40;
/// Length of a TCP header without options.
pub const TCP_HEADER: usize = 20;
/// Length of a UDP header.
pub const UDP_HEADER: usize = 8;
/// Length of an ICMP or ICMPv6 header: all that messages have in common, and four more bytes.
pub const ICMP_HEADER: usize = 8;
/// Length of a header of Generic UDP Encapsulation without optional fields.
pub const GUE_HEADER: usize = 4;
/// Length of a GRE header without optional fields.
pub const GRE_HEADER: usize = 4;

/// EtherType of IPv4, as a word loaded from the wire.
pub const ETHERTYPE_IPV4: u16 = EtherType::Ipv4 as u16;
/// EtherType of IPv6, as a word loaded from the wire.
pub const ETHERTYPE_IPV6: u16 = EtherType::Ipv6 as u16;

/// EtherType of a VLAN tag (IEEE 802.1Q), as a word loaded from the wire.
pub const ETHERTYPE_VLAN: u16 = EtherType::Ieee8021q as u16;
/// EtherType of the outer of two VLAN tags (IEEE 802.1ad), as a word loaded from the wire.
pub const ETHERTYPE_VLAN_OUTER: u16 = EtherType::Ieee8021ad as u16;

/// ICMP.
pub const ICMP: u8 = IpProto::Icmp as u8;
/// IPv4 in IP (RFC 2003).
pub const IPV4_IN_IP: u8 = IpProto::Ipv4 as u8;
/// TCP.
pub const TCP: u8 = IpProto::Tcp as u8;
/// UDP.
pub const UDP: u8 = IpProto::Udp as u8;
/// IPv6 in IP (RFC 2473, RFC 4213).
pub const IPV6_IN_IP: u8 = IpProto::Ipv6 as u8;
/// SCTP (RFC 9260).
pub const SCTP: u8 = IpProto::Sctp as u8;
/// Generic Routing Encapsulation (RFC 2784).
pub const GRE: u8 = IpProto::Gre as u8;
/// ICMPv6.
pub const ICMPV6: u8 = IpProto::Ipv6Icmp as u8;
/// IPv6 fragment header.
pub const IPV6_FRAGMENT: u8 = IpProto::Ipv6Frag as u8;

/// IPv6 authentication header (RFC 4302).
pub const IPV6_AUTHENTICATION: u8 = IpProto::Ah as u8;
/// IPv6 hop-by-hop options (RFC 8200 §4.3).
pub const IPV6_HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
/// IPv6 destination options (RFC 8200 §4.6).
pub const IPV6_DESTINATION: u8 = IpProto::Ipv6Opts as u8;
/// IPv6 routing header.
pub const IPV6_ROUTING: u8 = IpProto::Ipv6Route as u8;

/// Whether an IPv6 next header is an extension header, behind which any protocol may stand (RFC 8200 §4, RFC 4302).
#[inline(always)]
pub const fn is_extension_header(next_header: u8) -> bool {
    matches!(
        next_header,
        IPV6_HOP_BY_HOP | IPV6_ROUTING | IPV6_FRAGMENT | IPV6_AUTHENTICATION | IPV6_DESTINATION
    )
}
