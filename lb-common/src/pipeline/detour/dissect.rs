//! What a packet is: the headers, as far as they say whom it is for.

use crate::{
    abi::Reason,
    net::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, load16},
};

use super::{
    super::{
        Packet,
        family::{Family, V4, V6},
        parse,
    },
    Kind, Seen, Step,
};

/// Reads the headers.
#[inline(always)]
pub(super) fn dissect<P: Packet>(packet: &P, seen: &mut Seen) -> Step {
    let ethernet: &[u8; ETHERNET] = packet.view(0).ok_or(Reason::NotIp)?;
    match load16(ethernet, 12) {
        ETHERTYPE_IPV4 => headers::<V4, P>(packet, seen),
        ETHERTYPE_IPV6 => headers::<V6, P>(packet, seen),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn headers<F: Family, P: Packet>(packet: &P, seen: &mut Seen) -> Step {
    let ip = F::parse(packet).ok_or(Reason::NoService)?;
    seen.v6 = u32::from(F::V6);
    seen.source = F::wide(ip.source);
    seen.destination = F::wide(ip.destination);
    seen.network = ETHERNET as u32;
    seen.transport = ip.transport as u32;
    seen.len = u32::from(ip.len);
    seen.protocol = u32::from(ip.protocol);
    seen.tos = u32::from(ip.tos);
    seen.ttl = u32::from(ip.ttl);
    seen.outcome.bytes = u32::from(ip.len);
    match parse::transport(packet, &ip) {
        Ok(transport) => {
            seen.ports = transport.ports;
            seen.outcome.tcp_flags = u16::from(transport.flags);
        }
        Err(oddity) => {
            seen.kind = Kind::NoPorts as u32;
            seen.oddity = oddity as u32 + 1;
        }
    }
    Ok(())
}
