//! Which backend a QUIC packet belongs to by its connection ID, wherever it comes from.

use crate::{
    abi::Placement,
    flow::Event,
    net::{UDP_HEADER, load16, tcp},
    quic::{self, ConnectionId, Header},
};

use super::{
    super::{Packet, Tables},
    PacketKind, Scratch, StepResult,
    scratch::offset,
};

/// Finds the backend that the connection ID names, if the service is routed so: [`crate::pipeline::Outcome::target`].
/// Otherwise the packet is placed as any other.
#[inline(always)]
pub(super) fn cid_route<P: Packet, T: Tables>(packet: &P, tables: &T, scratch: &mut Scratch) -> StepResult {
    let number = scratch.service.number();
    // QUIC is never sent in fragments (RFC 9000 §14), and what an error quotes has the client's connection ID.
    let Some(set) = tables.options(number).and_then(|options| {
        let index = options.quic.checked_sub(1)?;
        tables.quic(index).filter(|_| scratch.is(PacketKind::Whole))
    }) else {
        return Ok(());
    };
    let packet = header(packet, scratch);
    let id = packet.and_then(|(_, cid)| quic::decode(tables, set, &cid).ok());
    let event = match id.and_then(|id| tables.server(&set.servers, &id)) {
        Some(target) => {
            scratch.outcome.target = target;
            scratch.outcome.placement = Placement::ConnectionId.number();
            Event::Routed
        }
        None => {
            // A client that has had no answer yet: whoever has a connection knows a connection ID of its server. So a
            // backend that drains gets no new ones.
            if let Some((Header::Long, _)) = packet {
                scratch.outcome.tcp_flags = u16::from(tcp::SYN);
            }
            Event::Unroutable
        }
    };
    if !tables.explains() {
        tables.count(number, event);
    }
    Ok(())
}

/// The packet's kind of header, and its destination connection ID.
#[inline(always)]
fn header<P: Packet>(packet: &P, scratch: &Scratch) -> Option<(Header, ConnectionId)> {
    const LONG: usize = Header::Long.connection_id();
    const SHORT: usize = Header::Short.connection_id();
    let udp = offset(scratch.transport);
    let header: &[u8; UDP_HEADER] = packet.view(udp)?;
    // What follows the datagram is padding.
    let datagram = usize::from(u16::from_be(load16(header, 4)));
    let first: &[u8; 1] = packet.view(udp + UDP_HEADER)?;
    // Every packet of QUIC is longer than what is looked at, since keys need samples of it (RFC 9001 §5.4.2).
    match quic::header(first[0]) {
        Header::Long if datagram >= UDP_HEADER + LONG + ConnectionId::MAX_BYTES => {
            let quic: &[u8; LONG + ConnectionId::MAX_BYTES] = packet.view(udp + UDP_HEADER)?;
            let length = usize::from(quic[Header::LENGTH]);
            Some((Header::Long, ConnectionId::new(quic.last_chunk()?, length)))
        }
        Header::Short if datagram >= UDP_HEADER + SHORT + ConnectionId::MAX_BYTES => {
            let quic: &[u8; SHORT + ConnectionId::MAX_BYTES] = packet.view(udp + UDP_HEADER)?;
            let cid = ConnectionId::new(quic.last_chunk()?, ConnectionId::MAX_BYTES);
            Some((Header::Short, cid))
        }
        _ => None,
    }
}
