//! What stands between an IP header and the transport header: extension headers of IPv6, and where a fragment belongs.

use crate::{
    abi::Reason,
    net::{IPV6_AUTHENTICATION, IPV6_FRAGMENT, IPV6_ROUTING, is_extension_header, load16, load32},
};

use super::{
    super::{Packet, family::Family, parse::Ip},
    Scratch,
    scratch::within_headers,
};

/// Extension headers that are walked.
const MAX_HEADERS: usize = 8;
/// Bytes of them.
const MAX_BYTES: usize = 256;
/// IPv4: the fragment's offset, and the flag that says that more follow.
const OFFSET: u16 = 0x1fff;
const MORE: u16 = 0x2000;

/// What follows an IP header and its extension headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload {
    /// Its protocol.
    pub(super) protocol: u8,
    /// Where it begins in the frame.
    pub(super) at: usize,
    /// See [`Scratch::fragment`].
    pub(super) fragment: u32,
    /// See [`Scratch::fragment_id`].
    pub(super) fragment_id: u32,
    /// Offset in the frame of what the fragments of a packet share out (RFC 8200: the fragmentable part).
    pub(super) shared_out: usize,
}

impl Payload {
    #[inline(always)]
    fn set_fragment(&mut self, offset: u16, has_more: bool) {
        self.fragment = u32::from(offset) | if has_more { Scratch::MORE_FRAGMENTS } else { 0 };
    }
}

/// Finds what follows `ip`, of a packet that ends at `end` of the frame.
///
/// # Errors
/// Why it cannot be found.
#[inline(always)]
pub(super) fn content<F: Family, P: Packet>(
    packet: &P,
    ip: &Ip<F::Address>,
    end: usize,
) -> Result<Payload, Reason> {
    let mut content = Payload {
        protocol: ip.protocol,
        at: ip.transport,
        fragment: 0,
        fragment_id: 0,
        shared_out: ip.transport,
    };
    if F::V6 {
        walk(packet, &mut content, end)?;
    } else {
        let header: &[u8; 20] = packet.view(ip.network).ok_or(Reason::Truncated)?;
        let word = u16::from_be(load16(header, 6));
        content.set_fragment((word & OFFSET) * 8, word & MORE != 0);
        content.fragment_id = u32::from(load16(header, 4));
    }
    if content.at > end {
        return Err(Reason::Truncated);
    }
    Ok(content)
}

/// Walks over extension headers (RFC 8200 §4, RFC 4302).
#[inline(always)]
fn walk<P: Packet>(packet: &P, content: &mut Payload, end: usize) -> Result<(), Reason> {
    let start = content.at;
    let mut is_fragment = false;
    for _ in 0..=MAX_HEADERS {
        let is_later = content.fragment & !Scratch::MORE_FRAGMENTS != 0;
        if is_later || !is_extension_header(content.protocol) {
            return Ok(());
        }
        let at = within_headers(content.at);
        if end.saturating_sub(at) < 8 {
            // RFC 7112 §5: a first fragment holds all of them.
            let torn = if is_fragment {
                Reason::BadFragment
            } else {
                Reason::Truncated
            };
            return Err(torn);
        }
        let header: &[u8; 8] = packet.view(at).ok_or(Reason::Truncated)?;
        let units = usize::from(header[1]);
        let len = match content.protocol {
            IPV6_FRAGMENT if is_fragment => return Err(Reason::BadFragment),
            IPV6_FRAGMENT => {
                is_fragment = true;
                let word = u16::from_be(load16(header, 2));
                content.set_fragment(word & !7, word & 1 != 0);
                content.fragment_id = load32(header, 4);
                8
            }
            IPV6_AUTHENTICATION => (units + 2) * 4,
            // With segments left, the destination is not the packet's last.
            IPV6_ROUTING if header[3] != 0 => return Err(Reason::ExtensionHeader),
            _ => (units + 1) * 8,
        };
        if content.protocol == IPV6_FRAGMENT {
            content.shared_out = at + 8;
        }
        content.protocol = header[0];
        content.at = at + len;
        if content.at > start + MAX_BYTES {
            return Err(Reason::ExtensionHeader);
        }
    }
    Err(Reason::ExtensionHeader)
}
