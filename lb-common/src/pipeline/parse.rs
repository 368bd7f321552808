//! From bytes to what the rest of the pipeline needs to know of a packet.

use crate::{
    abi::Reason,
    net::{TCP, TCP_HEADER, UDP, UDP_HEADER, load16, load32, tcp},
};

use super::Packet;

/// An IP header of either family. `A` is the family's address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip<A> {
    pub(super) source: A,
    pub(super) destination: A,
    /// The transport protocol, or the first extension header.
    pub(super) protocol: u8,
    /// Type of service or traffic class.
    pub(super) tos: u8,
    pub(super) ttl: u8,
    /// Length of the whole packet, header included.
    pub(super) len: u16,
    /// Where the IP header starts in the frame.
    pub(super) network: usize,
    /// Where the transport header starts in the frame.
    pub(super) transport: usize,
    /// Why the transport header cannot be relied on: the IP header contradicts itself or the frame, or the packet is
    /// a fragment. One value, so that the common packet passes one test.
    pub(super) oddity: Option<Reason>,
}

/// Of a transport header, what places the flow. Offsets are into the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transport {
    /// Source port in the low half, destination port in the high half, wire order.
    pub(super) ports: u32,
    /// TCP's flags; 0 for UDP.
    pub(super) flags: u8,
}

impl Transport {
    /// Whether it is TCP's, with SYN: the packets that may carry an MSS.
    #[inline(always)]
    pub(super) fn is_syn(&self) -> bool {
        tcp::has_syn(self.flags)
    }

    #[inline(always)]
    pub(super) fn source_port(&self) -> u16 {
        self.ports as u16
    }

    #[inline(always)]
    pub(super) fn destination_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }
}

/// The transport header of a TCP or UDP packet.
///
/// # Errors
/// Why there is none; whether the packet is dropped for it depends on whom it is for.
#[inline(always)]
pub(super) fn transport<P: Packet, A>(packet: &P, ip: &Ip<A>) -> Result<Transport, Reason> {
    if let Some(reason) = ip.oddity {
        return Err(reason);
    }
    // The packet's own length, not the frame's: what follows it is padding.
    let len = (ip.network + usize::from(ip.len)).wrapping_sub(ip.transport);
    match ip.protocol {
        TCP => {
            let tcp: &[u8; TCP_HEADER] = packet.view(ip.transport).ok_or(Reason::Truncated)?;
            let header = usize::from(tcp[12] >> 4) * 4;
            if header < TCP_HEADER || header > len {
                return Err(Reason::BadHeader);
            }
            Ok(Transport {
                ports: load32(tcp, 0),
                flags: tcp[13],
            })
        }
        UDP => {
            let udp: &[u8; UDP_HEADER] = packet.view(ip.transport).ok_or(Reason::Truncated)?;
            let datagram = usize::from(u16::from_be(load16(udp, 4)));
            if datagram < UDP_HEADER || datagram > len {
                return Err(Reason::BadHeader);
            }
            Ok(Transport {
                ports: load32(udp, 0),
                flags: 0,
            })
        }
        _ => Err(Reason::ExtensionHeader),
    }
}
