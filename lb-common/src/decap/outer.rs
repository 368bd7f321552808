//! The headers in front of a tunnel's own: Ethernet with VLAN tags, and the outer IP header.

use crate::net::{
    Bytes, ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, ETHERTYPE_VLAN_OUTER, IPV4_HEADER,
    IPV6_DESTINATION, IPV6_FRAGMENT, IPV6_HEADER, IPV6_HOP_BY_HOP, VLAN_TAG, checksum, load16, load32,
    load64,
};

use super::{Address, Reason};

/// More option headers than one of each kind are nobody's tunnel. (Linux' tunnels put destination options in front.)
const MAX_OPTION_HEADERS: usize = 2;

/// The frame's own header, to be put in front of what is inside.
pub(super) struct Link {
    pub(super) macs_head: u64,
    pub(super) macs_tail: u32,
    /// VLAN tags as on the wire, 0 for none.
    pub(super) tags: [u32; 2],
    /// Where the IP header begins.
    pub(super) network: usize,
    v6: bool,
}

impl Link {
    /// `None` if no IP packet follows.
    #[inline(always)]
    pub(super) fn read<B: Bytes>(frame: &B) -> Option<Self> {
        let ethernet: &[u8; ETHERNET] = frame.view(0)?;
        let mut link = Self {
            macs_head: load64(ethernet, 0),
            macs_tail: load32(ethernet, 8),
            tags: [0; 2],
            network: ETHERNET,
            v6: false,
        };
        let mut ether_type = load16(ethernet, 12);
        for i in 0..link.tags.len() {
            if ether_type == ETHERTYPE_VLAN || ether_type == ETHERTYPE_VLAN_OUTER {
                // The tag, and the type of what follows it.
                let tag: &[u8; VLAN_TAG + 2] = frame.view(ETHERNET - 2 + VLAN_TAG * i)?;
                link.tags[i] = load32(tag, 0);
                ether_type = load16(tag, VLAN_TAG);
                link.network += VLAN_TAG;
            }
        }
        link.v6 = match ether_type {
            ETHERTYPE_IPV4 => false,
            ETHERTYPE_IPV6 => true,
            _ => return None,
        };
        Some(link)
    }
}

/// The outer IP header.
pub(super) struct OuterPacket {
    pub(super) source: Address,
    pub(super) destination: Address,
    /// What follows the header and its options.
    pub(super) protocol: u8,
    /// Type of service or traffic class.
    pub(super) tos: u8,
    pub(super) fragment: Fragment,
    /// Where what follows begins.
    pub(super) payload: usize,
    network: usize,
    /// Length of the packet, by the header.
    len: usize,
    v6: bool,
}

/// Which part of a packet this is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragment {
    /// All of it.
    Whole,
    /// The part that begins with the header inside.
    First,
    /// Another part.
    Later,
}

impl OuterPacket {
    /// `None` if it is none that anybody could read.
    #[inline(always)]
    pub(super) fn read<B: Bytes>(frame: &B, link: &Link) -> Option<Self> {
        if link.v6 {
            Self::read_v6(frame, link.network)
        } else {
            Self::read_v4(frame, link.network)
        }
    }

    #[inline(always)]
    fn read_v4<B: Bytes>(frame: &B, network: usize) -> Option<Self> {
        let header: &[u8; IPV4_HEADER] = frame.view(network)?;
        let header_len = usize::from(header[0] & 15) * 4;
        if header[0] >> 4 != 4 || header_len < IPV4_HEADER {
            return None;
        }
        let (more, offset) = (header[6] & 0x20 != 0, header[6] & 0x1f != 0 || header[7] != 0);
        Some(Self {
            source: Address::v4(load32(header, 12)),
            destination: Address::v4(load32(header, 16)),
            protocol: header[9],
            tos: header[1],
            fragment: match (offset, more) {
                (true, _) => Fragment::Later,
                (false, true) => Fragment::First,
                (false, false) => Fragment::Whole,
            },
            payload: network + header_len,
            network,
            len: usize::from(u16::from_be(load16(header, 2))),
            v6: false,
        })
    }

    #[inline(always)]
    fn read_v6<B: Bytes>(frame: &B, network: usize) -> Option<Self> {
        let header: &[u8; IPV6_HEADER] = frame.view(network)?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let words = |at: usize| Address([0, 4, 8, 12].map(|i| load32(header, at + i)));
        let mut outer = Self {
            source: words(8),
            destination: words(24),
            protocol: header[6],
            tos: header[0] << 4 | header[1] >> 4,
            fragment: Fragment::Whole,
            payload: network + IPV6_HEADER,
            network,
            len: IPV6_HEADER + usize::from(u16::from_be(load16(header, 4))),
            v6: true,
        };
        for _ in 0..MAX_OPTION_HEADERS {
            if outer.protocol == IPV6_HOP_BY_HOP || outer.protocol == IPV6_DESTINATION {
                let options: &[u8; 2] = frame.view(outer.payload)?;
                outer.protocol = options[0];
                outer.payload += 8 + usize::from(options[1]) * 8;
            }
        }
        if outer.protocol == IPV6_FRAGMENT {
            let fragment: &[u8; 4] = frame.view(outer.payload)?;
            let first = fragment[2] == 0 && fragment[3] & 0xf8 == 0;
            outer.protocol = fragment[0];
            outer.payload += 8;
            // Also one that is all of the packet (RFC 6946): putting it together is the host's business.
            outer.fragment = if first { Fragment::First } else { Fragment::Later };
        }
        Some(outer)
    }

    /// Where the outer packet ends in the frame; what follows is padding.
    ///
    /// # Errors
    /// Why nothing in it can be relied on.
    #[inline(always)]
    pub(super) fn check<B: Bytes>(&self, frame: &B) -> Result<usize, Reason> {
        let end = self.network + self.len;
        if end < self.payload {
            return Err(Reason::BadHeader);
        }
        if end > frame.frame_len() {
            return Err(Reason::Truncated);
        }
        if !self.v6 {
            let sum = frame.sum(self.network, self.payload - self.network);
            if checksum::of(sum.ok_or(Reason::Truncated)?) != 0 {
                return Err(Reason::BadHeader);
            }
        }
        match self.fragment {
            Fragment::Whole => Ok(end),
            Fragment::First | Fragment::Later => Err(Reason::Fragment),
        }
    }
}
