//! ICMP errors about packets that were translated: the addresses around the quoted packet, the address and port inside
//! it, and every checksum that covers them (RFC 5508 §4).

use crate::{
    abi::Reason,
    net::{TCP, UDP, checksum, load16, load32, load64, store16, store32, store64},
};

use super::{
    super::{
        Packet,
        family::{End, Family, Readdress},
    },
    Seen, Step,
    seen::offset,
};

/// The headers were there before; the verifier wants them checked all the same.
const SEEN_BEFORE: Reason = Reason::Truncated;
/// Bytes of the transport header that every error quotes.
const QUOTED: usize = 8;
/// Where TCP's checksum ends: fewer bytes may be quoted.
const TCP_SUM_END: usize = 18;

/// One end of a packet becomes another.
#[derive(Clone, Copy, Debug)]
struct Change {
    end: End,
    /// Wide.
    address: [u64; 2],
    /// Wire order; 0 leaves it.
    port: u16,
}

/// An error about what a backend sent: to the backend, which knows itself by `address` and `port`.
#[inline(always)]
pub(super) fn to_backend<F: Family, P: Packet>(
    packet: &mut P,
    seen: &Seen,
    address: [u64; 2],
    port: u16,
) -> Step {
    let around = Change {
        end: End::Destination,
        address,
        port: 0,
    };
    let inside = Change {
        end: End::Source,
        address,
        port,
    };
    translate::<F, P>(packet, seen, around, inside).ok_or(SEEN_BEFORE)
}

/// An error about what a client sent: to the client, which knows the backend, and all that is behind the balancer, by
/// the VIP alone (RFC 5508 §4.2).
#[inline(always)]
pub(super) fn to_client<F: Family, P: Packet>(
    packet: &mut P,
    seen: &Seen,
    address: [u64; 2],
    port: u16,
) -> Step {
    let around = Change {
        end: End::Source,
        address,
        port: 0,
    };
    let inside = Change {
        end: End::Destination,
        address,
        port,
    };
    translate::<F, P>(packet, seen, around, inside).ok_or(SEEN_BEFORE)
}

#[inline(always)]
fn translate<F: Family, P: Packet>(
    packet: &mut P,
    seen: &Seen,
    around: Change,
    inside: Change,
) -> Option<()> {
    let network = offset(seen.network);
    let old = address_at::<F, P>(packet, network, around.end)?;
    let outer = checksum::delta(sum_of(old), sum_of(around.address));
    let readdress = Readdress {
        end: around.end,
        address: F::narrow(around.address),
        header_sum: outer,
    };
    F::forwarded(packet, network, Some(readdress))?;
    // ICMPv6's checksum covers the addresses around, too (RFC 4443 §2.3).
    let covered = if F::V6 { outer } else { 0 };
    let changed = covered + quoted_address::<F, P>(packet, seen, &inside)?;
    let icmp: &mut [u8; 8] = packet.view_mut(offset(seen.transport))?;
    let sum = checksum::adjusted(load16(icmp, 2), checksum::fold(changed));
    store16(icmp, 2, sum);
    Some(())
}

/// Changes the quoted packet; what that adds to a sum of it.
#[inline(always)]
fn quoted_address<F: Family, P: Packet>(packet: &mut P, seen: &Seen, change: &Change) -> Option<u32> {
    let at = offset(seen.quote);
    let old = address_at::<F, P>(packet, at, change.end)?;
    let address = checksum::delta(sum_of(old), sum_of(change.address));
    let mut changed = address;
    if F::V6 {
        let header: &mut [u8; 40] = packet.view_mut(at)?;
        let place = if change.end == End::Source { 8 } else { 24 };
        store64(header, place, change.address[0]);
        store64(header, place + 8, change.address[1]);
    } else {
        let header: &mut [u8; 20] = packet.view_mut(at)?;
        let place = if change.end == End::Source { 12 } else { 16 };
        store32(header, place, change.address[0] as u32);
        let old = load16(header, 10);
        let new = checksum::adjusted(old, address);
        store16(header, 10, new);
        changed += checksum::delta(u32::from(old), u32::from(new));
    }
    Some(changed + quoted_ports(packet, seen, change, address)?)
}

/// Changes the quoted transport header, `address` being what its pseudo header's sum grows by.
#[inline(always)]
fn quoted_ports<P: Packet>(packet: &mut P, seen: &Seen, change: &Change, address: u32) -> Option<u32> {
    let at = offset(seen.quoted_transport);
    let header: &mut [u8; QUOTED] = packet.view_mut(at)?;
    let ports = load32(header, 0);
    let new = match (change.port, change.end) {
        (0, _) => ports,
        (port, End::Source) => ports & 0xffff_0000 | u32::from(port),
        (port, End::Destination) => ports & 0xffff | u32::from(port) << 16,
    };
    store32(header, 0, new);
    let port = checksum::delta(checksum::halves(ports), checksum::halves(new));
    if seen.protocol == u32::from(UDP) {
        let old = load16(header, 6);
        if old == 0 {
            return Some(port);
        }
        // RFC 768: zero says that there is none.
        let sum = match checksum::adjusted(old, checksum::fold(address + port)) {
            0 => 0xffff,
            sum => sum,
        };
        store16(header, 6, sum);
        return Some(port + checksum::delta(u32::from(old), u32::from(sum)));
    }
    let end = offset(seen.network) + seen.len as usize;
    if seen.protocol != u32::from(TCP) || end.saturating_sub(at) < TCP_SUM_END {
        return Some(port);
    }
    let header: &mut [u8; TCP_SUM_END] = packet.view_mut(at)?;
    let old = load16(header, 16);
    let sum = checksum::adjusted(old, checksum::fold(address + port));
    store16(header, 16, sum);
    Some(port + checksum::delta(u32::from(old), u32::from(sum)))
}

/// The address at one end of the IP header at `at`, wide.
#[inline(always)]
fn address_at<F: Family, P: Packet>(packet: &P, at: usize, end: End) -> Option<[u64; 2]> {
    if F::V6 {
        let header: &[u8; 40] = packet.view(at)?;
        let place = if end == End::Source { 8 } else { 24 };
        Some([load64(header, place), load64(header, place + 8)])
    } else {
        let header: &[u8; 20] = packet.view(at)?;
        let place = if end == End::Source { 12 } else { 16 };
        Some([u64::from(load32(header, place)), 0])
    }
}

/// The sum of a wide address.
#[inline(always)]
fn sum_of([high, low]: [u64; 2]) -> u32 {
    let halves = |word: u64| checksum::halves(word as u32) + checksum::halves((word >> 32) as u32);
    halves(high) + halves(low)
}
