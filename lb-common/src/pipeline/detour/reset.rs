//! TCP resets: how a service without backends refuses connections.

use crate::{
    abi::Reason,
    net::{TCP, TCP_HEADER, checksum, load32, store16, store32, tcp},
};

use super::{
    super::{Packet, rewrite::swap_macs},
    Scratch, StepResult,
    own::{OwnHeader, ReplyFamily},
    scratch::offset,
};

/// The header was there before; the verifier wants it checked all the same.
const SEEN_BEFORE: Reason = Reason::Truncated;

/// What of a segment decides how it is reset.
#[derive(Clone, Copy, Debug)]
struct Segment {
    sequence: u32,
    acknowledgment: u32,
    flags: u8,
    /// Bytes of data.
    data: u32,
}

/// What a reset says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reset {
    sequence: u32,
    acknowledgment: u32,
    flags: u8,
}

impl Segment {
    /// The reset that such a segment meets where there is no connection (RFC 9293 §3.10.7.1).
    #[inline(always)]
    const fn reset(self) -> Reset {
        if self.flags & tcp::ACK != 0 {
            return Reset {
                sequence: self.acknowledgment,
                acknowledgment: 0,
                flags: tcp::RST,
            };
        }
        let counted = (self.flags & tcp::SYN != 0) as u32 + (self.flags & tcp::FIN != 0) as u32;
        Reset {
            sequence: 0,
            acknowledgment: self.sequence.wrapping_add(self.data).wrapping_add(counted),
            flags: tcp::RST | tcp::ACK,
        }
    }
}

/// Turns the segment into a reset of its connection. Options and data go.
///
/// # Errors
/// Why it cannot be done; the packet is as it came then.
#[inline(always)]
pub(super) fn reset<F: ReplyFamily, P: Packet>(packet: &mut P, scratch: &Scratch) -> StepResult {
    let (network, transport) = (offset(scratch.network), offset(scratch.transport));
    let header: &[u8; TCP_HEADER] = packet.view(transport).ok_or(SEEN_BEFORE)?;
    let before_data = (transport + usize::from(header[12] >> 4) * 4 - network) as u32;
    let segment = Segment {
        sequence: u32::from_be(load32(header, 4)),
        acknowledgment: u32::from_be(load32(header, 8)),
        flags: header[13],
        data: scratch.len - before_data,
    };
    if !packet.trim(network + F::HEADER + TCP_HEADER) {
        return Err(Reason::NoHeadroom);
    }
    let own = OwnHeader {
        source: F::narrow(scratch.destination),
        destination: F::narrow(scratch.source),
        protocol: TCP,
        len: TCP_HEADER as u16,
    };
    F::write_own(packet, network, &own).ok_or(SEEN_BEFORE)?;
    write_tcp::<F, P>(packet, network + F::HEADER, &own, scratch.ports, segment.reset())
        .ok_or(SEEN_BEFORE)?;
    swap_macs(packet)
}

#[inline(always)]
fn write_tcp<F: ReplyFamily, P: Packet>(
    packet: &mut P,
    at: usize,
    own: &OwnHeader<F::Address>,
    ports: u32,
    reset: Reset,
) -> Option<()> {
    let Reset {
        sequence,
        acknowledgment,
        flags,
    } = reset;
    let header: &mut [u8; TCP_HEADER] = packet.view_mut(at)?;
    let ports = ports.rotate_left(16);
    // Five words long; the window is 0.
    let len_flags = u32::from(u16::from_ne_bytes([0x50, flags]));
    let (sequence, acknowledgment) = (sequence.to_be(), acknowledgment.to_be());
    let words = [ports, sequence, acknowledgment, len_flags].map(u64::from);
    let sum = F::pseudo_sum(own) + words[0] + words[1] + words[2] + words[3];
    store32(header, 0, ports);
    store32(header, 4, sequence);
    store32(header, 8, acknowledgment);
    store32(header, 12, len_flags);
    store16(header, 16, checksum::of(sum));
    store16(header, 18, 0);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, data: u32) -> Segment {
        Segment {
            sequence: u32::MAX,
            acknowledgment: 77,
            flags,
            data,
        }
    }

    #[test]
    fn a_reset_answers_what_the_segment_said() {
        let acknowledging = Reset {
            sequence: 77,
            acknowledgment: 0,
            flags: tcp::RST,
        };
        assert_eq!(segment(tcp::ACK, 9).reset(), acknowledging);
        assert_eq!(segment(tcp::SYN | tcp::ACK, 0).reset(), acknowledging);
        assert_eq!(segment(tcp::FIN | tcp::ACK, 0).reset(), acknowledging);
        for (flags, data, acknowledgment) in [
            (tcp::SYN, 0, 0),
            (tcp::SYN, 10, 10),
            (tcp::SYN | tcp::FIN, 10, 11),
            (0, 10, 9),
            (0, 0, u32::MAX),
        ] {
            let reset = segment(flags, data).reset();
            assert_eq!((reset.sequence, reset.acknowledgment), (0, acknowledgment));
            assert_eq!(reset.flags, tcp::RST | tcp::ACK);
        }
    }
}
