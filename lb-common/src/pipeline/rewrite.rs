//! Rewriting a packet toward its backend, or back toward its client.

use crate::{
    abi::{Forward, Reason, TargetEntry},
    net::{ETHERNET, TCP, UDP, checksum, load16, load64, store16, store32, store64},
};

use super::{
    Packet, Tables, Wrap,
    early::{DETOUR, LeaveEarly},
    family::{End, Family, Readdress},
    parse::{Ip, Transport},
    wrap::{wrap_plain, wraps},
};

/// The header of a packet that was seen whole before can be seen again; the verifier wants it checked all the same.
const SEEN_BEFORE: Reason = Reason::Truncated;

/// Applies the forwarder of the target with that index to a plain packet.
///
/// With a few more instructions for each, every forwarder is part of the direct way; tags cost a call.
#[inline(always)]
pub(super) fn toward_backend<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    (index, target): (u32, &TargetEntry),
    ip: &Ip<F::Address>,
    transport: &Transport,
    hash: u64,
) -> Result<(), LeaveEarly> {
    const L2DSR: u16 = Forward::L2dsr.untagged();
    const IPIP4: u16 = Forward::Ipip4.untagged();
    const IPIP6: u16 = Forward::Ipip6.untagged();
    const GUE4: u16 = Forward::Gue4.untagged();
    const GUE6: u16 = Forward::Gue6.untagged();
    const FOU4: u16 = Forward::Fou4.untagged();
    const FOU6: u16 = Forward::Fou6.untagged();
    const GRE4: u16 = Forward::Gre4.untagged();
    const GRE6: u16 = Forward::Gre6.untagged();
    const NAT: u16 = Forward::Nat.untagged();
    const LOCAL: u16 = Forward::Local.untagged();
    let wrap = Wrap {
        hash,
        target: index,
        network: ETHERNET as u32,
        len: u32::from(ip.len),
        tos: u16::from(ip.tos),
        v6: u16::from(F::V6),
    };
    match target.untagged_forward() {
        IPIP4 => wrap_plain(packet, target, Forward::Ipip4, wrap)?,
        IPIP6 => wrap_plain(packet, target, Forward::Ipip6, wrap)?,
        L2DSR => wrap_plain(packet, target, Forward::L2dsr, wrap)?,
        NAT => {
            set_macs(packet, target.macs_head, target.macs_tail)?;
            nat::<F, P>(packet, ip, transport, &NewEnd::to_backend::<F>(target))?;
        }
        GUE4 => wrap_plain(packet, target, Forward::Gue4, wrap)?,
        GUE6 => wrap_plain(packet, target, Forward::Gue6, wrap)?,
        FOU4 => wrap_plain(packet, target, Forward::Fou4, wrap)?,
        FOU6 => wrap_plain(packet, target, Forward::Fou6, wrap)?,
        GRE4 => wrap_plain(packet, target, Forward::Gre4, wrap)?,
        GRE6 => wrap_plain(packet, target, Forward::Gre6, wrap)?,
        LOCAL => return Err(Some(Reason::Local)),
        _ if wraps(target.forward) => packet.wrap(tables, wrap)?,
        _ => return Err(DETOUR),
    }
    Ok(())
}

/// Both MACs, laid out as in [`TargetEntry`].
#[inline(always)]
pub(super) fn set_macs<P: Packet>(packet: &mut P, head: u64, tail: u32) -> Result<(), Reason> {
    let ethernet: &mut [u8; ETHERNET] = packet.view_mut(0).ok_or(SEEN_BEFORE)?;
    store64(ethernet, 0, head);
    store32(ethernet, 8, tail);
    Ok(())
}

/// Sends a frame back to where it came from.
#[inline(always)]
pub(super) fn swap_macs<P: Packet>(packet: &mut P) -> Result<(), Reason> {
    let ethernet: &[u8; ETHERNET] = packet.view(0).ok_or(SEEN_BEFORE)?;
    let (destination, source) = (
        load64(ethernet, 0) & 0xffff_ffff_ffff,
        load64(ethernet, 6) & 0xffff_ffff_ffff,
    );
    set_macs(packet, source | destination << 48, (destination >> 16) as u32)
}

/// A new address and port for one end of a packet.
pub(super) struct NewEnd<A> {
    readdress: Readdress<A>,
    /// Wire order; 0 leaves the port as it is.
    port: u16,
    transport_sum: u32,
}

impl<A> NewEnd<A> {
    /// VIP → backend.
    #[inline(always)]
    pub(super) fn to_backend<F: Family<Address = A>>(target: &TargetEntry) -> Self {
        Self {
            readdress: Readdress {
                end: End::Destination,
                address: F::narrow(target.addresses[TargetEntry::BACKEND]),
                header_sum: target.header_sum,
            },
            port: target.backend_port,
            transport_sum: target.variation,
        }
    }

    /// Backend → VIP: the same change, undone at the other end.
    #[inline(always)]
    pub(super) fn to_client<F: Family<Address = A>>(target: &TargetEntry) -> Self {
        Self {
            readdress: Readdress {
                end: End::Source,
                address: F::narrow(target.addresses[TargetEntry::VIP]),
                header_sum: checksum::reversed(target.header_sum),
            },
            port: target.vip_port,
            transport_sum: checksum::reversed(target.variation),
        }
    }
}

/// Rewrites address, port and checksums (RFC 1624). Of what is neither TCP nor UDP the address only: SCTP's checksum
/// covers no addresses, and its ports are not translated.
#[inline(always)]
pub(super) fn nat<F: Family, P: Packet>(
    packet: &mut P,
    ip: &Ip<F::Address>,
    transport: &Transport,
    change: &NewEnd<F::Address>,
) -> Result<(), Reason> {
    let NewEnd {
        readdress,
        port,
        transport_sum,
    } = change;
    F::forwarded(packet, ip.network, Some(*readdress)).ok_or(SEEN_BEFORE)?;
    let ports = match (*port, readdress.end) {
        (0, _) => transport.ports,
        (port, End::Source) => transport.ports & 0xffff_0000 | u32::from(port),
        (port, End::Destination) => transport.ports & 0xffff | u32::from(port) << 16,
    };
    if ip.protocol == TCP {
        let tcp: &mut [u8; 20] = packet.view_mut(ip.transport).ok_or(SEEN_BEFORE)?;
        store32(tcp, 0, ports);
        let sum = checksum::adjusted(load16(tcp, 16), *transport_sum);
        store16(tcp, 16, sum);
    } else if ip.protocol == UDP {
        let udp: &mut [u8; 8] = packet.view_mut(ip.transport).ok_or(SEEN_BEFORE)?;
        store32(udp, 0, ports);
        let sum = checksum::adjusted_udp(load16(udp, 6), *transport_sum);
        store16(udp, 6, sum);
    }
    Ok(())
}
