//! The messages of echo requests and replies.
//!
//! Invariant: only a whole reply that is as long as a request yields a token.

use std::net::IpAddr;

/// Header and token: what a request holds, in bytes.
pub(super) const ECHO_LENGTH: usize = 16;

/// The message behind the IPv4 header, which raw sockets deliver as well.
pub(super) fn skip_ip_header(packet: &[u8]) -> Option<&[u8]> {
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    packet.get(header_length..)
}

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum EchoFamily {
    V4,
    V6,
}

impl EchoFamily {
    /// The protocol of that address.
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Type numbers of request and reply.
    fn echo_types(self) -> (u8, u8) {
        match self {
            Self::V4 => (8, 0),
            Self::V6 => (128, 129),
        }
    }

    /// An echo request: type, code 0, checksum, identifier and sequence number from the token, token.
    pub(super) fn request(self, token: u64) -> [u8; ECHO_LENGTH] {
        let token = token.to_be_bytes();
        let mut message = [0; ECHO_LENGTH];
        message[0] = self.echo_types().0;
        message[4..8].copy_from_slice(&token[..4]);
        message[8..].copy_from_slice(&token);
        if self == Self::V4 {
            // The kernel fills in ICMPv6 checksums, and ICMP ones on datagram sockets, but not on raw ones.
            let checksum = internet_checksum(&message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        message
    }

    /// The token of an echo reply.
    pub(super) fn reply_token(self, message: &[u8]) -> Option<u64> {
        let message: &[u8; ECHO_LENGTH] = message.try_into().ok()?;
        let is_reply = message[0] == self.echo_types().1 && message[1] == 0;
        let token = message.last_chunk::<8>()?;
        is_reply.then(|| u64::from_be_bytes(*token))
    }
}

/// RFC 1071, of an even number of bytes.
fn internet_checksum(message: &[u8; ECHO_LENGTH]) -> u16 {
    let sum: u32 = message
        .chunks_exact(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    // Eight words carry at most once into the upper half, and folding cannot carry again: 8 × 0xffff < 2 << 18.
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) as u16 + (folded >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_echo_reply_yields_its_token() {
        for family in [EchoFamily::V4, EchoFamily::V6] {
            let mut reply = family.request(0x0123_4567_89ab_cdef);
            assert_eq!(family.reply_token(&reply), None, "a request is no reply");
            reply[0] = family.echo_types().1;
            assert_eq!(family.reply_token(&reply), Some(0x0123_4567_89ab_cdef));
            for length in 0..reply.len() {
                assert_eq!(family.reply_token(&reply[..length]), None);
            }
        }
    }

    #[test]
    fn the_ip_header_is_skipped_by_its_own_length_and_never_beyond_the_packet() {
        assert_eq!(skip_ip_header(&[]), None);
        assert_eq!(skip_ip_header(&[0x46; 23]), None);
        assert_eq!(skip_ip_header(&[0x46; 24]), Some(&[][..]));
        assert_eq!(skip_ip_header(&[0x45; 21]), Some(&[0x45][..]));
    }
}
