//! Finding the flow that an ICMP error is about: the packet that it quotes says so.

use crate::{
    abi::Reason,
    net::{ICMP_HEADER, SCTP, TCP, UDP, load32},
};

use super::{
    super::{
        Packet,
        family::{Family, V4, V6},
    },
    PacketKind, Scratch, StepResult,
    extensions::content,
    scratch::{offset, within_headers},
};

/// Bytes of the transport header that every error quotes (RFC 792).
const QUOTED: usize = 8;

/// Takes the flow from the quoted packet, turned round: who sent it is the VIP, who would have got it is the client.
#[inline(always)]
pub(super) fn icmp_inner<P: Packet>(packet: &P, scratch: &mut Scratch) -> StepResult {
    let quoted = if scratch.v6 == 0 {
        within::<V4, P>(packet, scratch)
    } else {
        within::<V6, P>(packet, scratch)
    };
    if let Err(oddity) = quoted {
        scratch.kind = PacketKind::NoPorts;
        scratch.set_oddity(oddity);
    }
    Ok(())
}

#[inline(always)]
fn within<F: Family, P: Packet>(packet: &P, scratch: &mut Scratch) -> Result<(), Reason> {
    let end = offset(scratch.network) + scratch.len as usize;
    let at = offset(scratch.transport + ICMP_HEADER as u32);
    if end.saturating_sub(at) < F::HEADER {
        return Err(Reason::Truncated);
    }
    let ip = F::parse(packet, at).ok_or(Reason::Truncated)?;
    // It is quoted in part, so its length says nothing.
    if ip.oddity == Some(Reason::BadHeader) {
        return Err(Reason::BadHeader);
    }
    // Errors go to whom the packet was from (RFC 1122 §3.2.2), who else gets them knows nothing of the flow.
    let recipient = scratch.destination;
    if F::wide(ip.source) != recipient {
        return Err(Reason::NoService);
    }
    let content = content::<F, P>(packet, &ip, end)?;
    let is_later = content.fragment & !Scratch::MORE_FRAGMENTS != 0;
    if is_later || !matches!(content.protocol, TCP | UDP | SCTP) {
        return Err(Reason::NoService);
    }
    let transport = within_headers(content.at);
    if end.saturating_sub(transport) < QUOTED {
        return Err(Reason::Truncated);
    }
    let header: &[u8; QUOTED] = packet.view(transport).ok_or(Reason::Truncated)?;
    scratch.ports = load32(header, 0).rotate_left(16);
    scratch.source = F::wide(ip.destination);
    scratch.protocol = u32::from(content.protocol);
    scratch.quote = at as u32;
    scratch.quoted_transport = transport as u32;
    Ok(())
}
