//! What stands between the outer IP header and the packet inside.

use crate::net::{
    Bytes, ETHERTYPE_IPV4, ETHERTYPE_IPV6, GRE, GRE_HEADER, GUE_HEADER, IPV4_IN_IP, IPV6_IN_IP, UDP,
    UDP_HEADER, load16,
};

use super::{
    GRE_BIT, IPIP_BIT, Reason, Rules,
    outer::{Fragment, OuterPacket},
};

/// In the first byte of GRE: a checksum, a key, a sequence number follow, four bytes each (RFC 2784 §2.1, RFC 2890 §2).
const GRE_CHECKSUM: u8 = 0x80;
const GRE_KEY: u8 = 0x20;
const GRE_SEQUENCE: u8 = 0x10;

/// Kinds of tunnels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tunnel {
    Ipip,
    Gue,
    Fou,
    Gre,
}

/// What a tunnel carries.
pub(super) struct TunnelContent {
    /// Where it begins in the frame.
    pub(super) at: usize,
    /// Where what carries it ends.
    pub(super) end: usize,
    /// IPv6 rather than IPv4; `None` if only its own version tells.
    pub(super) v6: Option<bool>,
}

/// Which kind of tunnel the packet belongs to, if any that the operator asked for. The later fragments of UDP do not
/// tell.
#[inline(always)]
pub(super) fn recognise<B: Bytes, R: Rules>(frame: &B, rules: &R, outer: &OuterPacket) -> Option<Tunnel> {
    let asked = |bit: u32, tunnel: Tunnel| (rules.protocols() & bit != 0).then_some(tunnel);
    match outer.protocol {
        IPV4_IN_IP | IPV6_IN_IP => asked(IPIP_BIT, Tunnel::Ipip),
        GRE => asked(GRE_BIT, Tunnel::Gre),
        UDP if outer.fragment != Fragment::Later => {
            let ports: &[u8; 4] = frame.view(outer.payload)?;
            let port = load16(ports, 2);
            if rules.gue_ports().contain(port) {
                Some(Tunnel::Gue)
            } else if rules.fou_ports().contain(port) {
                Some(Tunnel::Fou)
            } else {
                None
            }
        }
        _ => None,
    }
}

impl Tunnel {
    /// What is counted when its headers were taken off.
    #[inline(always)]
    pub(super) const fn reason(self) -> Reason {
        match self {
            Self::Ipip => Reason::Ipip,
            Self::Gue => Reason::Gue,
            Self::Fou => Reason::Fou,
            Self::Gre => Reason::Gre,
        }
    }

    /// What it carries, of an outer packet that ends at `end`.
    ///
    /// # Errors
    /// When its headers contradict themselves, or it carries something else than IP.
    #[inline(always)]
    pub(super) fn content<B: Bytes>(
        self,
        frame: &B,
        outer: &OuterPacket,
        end: usize,
    ) -> Result<TunnelContent, Reason> {
        let at = outer.payload;
        match self {
            Self::Ipip => Ok(TunnelContent {
                at,
                end,
                v6: Some(outer.protocol == IPV6_IN_IP),
            }),
            Self::Gre => gre(frame, at, end),
            Self::Fou => Ok(TunnelContent {
                at: at + UDP_HEADER,
                end: end_of_datagram(frame, at, end)?,
                v6: None,
            }),
            Self::Gue => gue(frame, at + UDP_HEADER, end_of_datagram(frame, at, end)?),
        }
    }
}

/// The end of a UDP datagram that begins at `at`. Its checksum is skipped: it is zero in most tunnels (RFC 6935), and
/// the packet inside has its own.
#[inline(always)]
fn end_of_datagram<B: Bytes>(frame: &B, at: usize, end: usize) -> Result<usize, Reason> {
    let header: &[u8; UDP_HEADER] = frame.view(at).ok_or(Reason::Truncated)?;
    let len = usize::from(u16::from_be(load16(header, 4)));
    if len < UDP_HEADER || at + len > end {
        return Err(Reason::BadHeader);
    }
    Ok(at + len)
}

/// Generic UDP Encapsulation (draft-ietf-intarea-gue §3, §4): version 0 has a header, version 1 is bare IP, whose
/// version's first bits are these. Flags announce options that may change what is inside; none are known here.
#[inline(always)]
fn gue<B: Bytes>(frame: &B, at: usize, end: usize) -> Result<TunnelContent, Reason> {
    let header: &[u8; GUE_HEADER] = frame.view(at).ok_or(Reason::Truncated)?;
    let v6 = match (header[0] >> 6, header[1]) {
        (1, _) => return Ok(TunnelContent { at, end, v6: None }),
        (0, IPV4_IN_IP) => false,
        (0, IPV6_IN_IP) => true,
        _ => return Err(Reason::Unsupported),
    };
    let control = header[0] & 0x20 != 0;
    if control || header[2] != 0 || header[3] != 0 {
        return Err(Reason::Unsupported);
    }
    let at = at + GUE_HEADER + usize::from(header[0] & 0x1f) * 4;
    Ok(TunnelContent {
        at,
        end,
        v6: Some(v6),
    })
}

/// GRE (RFC 2784, RFC 2890). Checksum, key and sequence number are skipped.
#[inline(always)]
fn gre<B: Bytes>(frame: &B, at: usize, end: usize) -> Result<TunnelContent, Reason> {
    let header: &[u8; GRE_HEADER] = frame.view(at).ok_or(Reason::Truncated)?;
    let optional = header[0] & (GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE);
    let v6 = match load16(header, 2) {
        ETHERTYPE_IPV4 => false,
        ETHERTYPE_IPV6 => true,
        _ => return Err(Reason::Unsupported),
    };
    if optional != header[0] || header[1] != 0 {
        // Routing (RFC 1701), or another version.
        return Err(Reason::Unsupported);
    }
    let field = |flag: u8| if header[0] & flag != 0 { 4 } else { 0 };
    let at = at + GRE_HEADER + field(GRE_CHECKSUM) + field(GRE_KEY) + field(GRE_SEQUENCE);
    Ok(TunnelContent {
        at,
        end,
        v6: Some(v6),
    })
}
