//! Back to the client.

use crate::{
    abi::{Reason, TargetEntry, Trace, TtlExpiredMode},
    net::ETHERNET,
};

use super::{
    super::{
        Host, Packet, RouteQuery, ServiceTables, Tables,
        family::{Family, V4, V6},
        reverse_nat::{ClientRoute, NoClientRoute, answer_of, way_back},
        wrap::{move_start, write_link},
    },
    PacketKind, Scratch, StepResult, fragment, fullnat,
    translate::translate,
};

/// Takes the answer of a backend to its client. Where the next hop is not known by its MAC address, the host's stack has to
/// take it there, which finds out (RFC 1122 §2.3.2.2).
#[inline(always)]
pub(super) fn reverse_nat<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
) -> StepResult {
    let no_way = if scratch.v6 == 0 {
        within::<V4, P, T>(packet, tables, scratch)
    } else {
        within::<V6, P, T>(packet, tables, scratch)
    };
    let no_way = match no_way {
        Ok(returned) => return Err(returned),
        Err(no_way) => no_way,
    };
    if let NoClientRoute::Because(Reason::NoService) = no_way {
        return Err(scratch.for_no_service());
    }
    scratch.is_back = 1;
    Err(match no_way {
        NoClientRoute::TooBig(max_len) => {
            scratch.max_len = u32::from(max_len);
            Reason::TooBigAnswered
        }
        NoClientRoute::Because(Reason::TtlExpired) if is_told(tables, scratch) => Reason::TtlAnswered,
        NoClientRoute::Because(reason) => reason,
    })
}

/// Whether its service has senders told of their last hop.
#[inline(always)]
fn is_told<T: ServiceTables>(tables: &T, scratch: &Scratch) -> bool {
    let options = tables.options(scratch.outcome.service_number());
    options.is_some_and(|options| options.ttl_expired == TtlExpiredMode::Answer)
}

#[inline(always)]
fn within<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
) -> Result<Reason, NoClientRoute> {
    if scratch.oddity != 0 || !scratch.shows_ports() {
        return Err(Reason::NoService.into());
    }
    let route = if let Some(target) = fullnat::answered(tables, scratch) {
        translated::<F, T>(tables, scratch, target)?
    } else {
        let (ip, transport) = (scratch.ip::<F>(), scratch.transport());
        let answer = answer_of::<F, T>(tables, &ip, &transport, &mut scratch.outcome)?;
        scratch.to = answer.to_client(scratch.ends());
        answer.route
    };
    // One to a VIP, where nothing else asks for its port, has been noted already.
    if scratch.is(PacketKind::FirstFragment) && scratch.is_for_vip == 0 {
        fragment::fragment(tables, scratch)?;
        if let Some(oddity) = scratch.oddity() {
            return Err(oddity.into());
        }
    }
    let ClientRoute { macs, tags, .. } = route;
    if !route.is_known {
        translate::<F, P>(packet, scratch, &scratch.to, false).ok_or(Reason::Truncated)?;
        return Ok(Reason::ReturnedByHost);
    }
    let len = usize::from(tags.bytes());
    let at = ETHERNET + len;
    move_start(packet, scratch.network as usize, at)?;
    write_link::<F, P>(packet, macs, tags, len).ok_or(Reason::Truncated)?;
    scratch.move_to(at as u32);
    translate::<F, P>(packet, scratch, &scratch.to, true).ok_or(Reason::Truncated)?;
    Ok(Reason::Returned)
}

/// The way of an answer in a flow through `fullnat`.
#[inline(always)]
fn translated<F: Family, T: ServiceTables + Host>(
    tables: &T,
    scratch: &mut Scratch,
    (service, target): (u32, u32),
) -> Result<ClientRoute, NoClientRoute> {
    let query = RouteQuery {
        v6: F::V6,
        source: scratch.to.source,
        destination: scratch.to.destination,
        protocol: scratch.protocol as u8,
        tos: scratch.tos as u8,
        len: scratch.len as u16,
    };
    let route = way_back(tables, &query)?;
    scratch.outcome.service = service;
    // Its service's targets may lie elsewhere since the client's last packet: then it counts as nobody's.
    let is_there = tables
        .target(target)
        .is_some_and(|there| there.addresses[TargetEntry::BACKEND] == scratch.source);
    scratch.outcome.target = if is_there { target } else { Trace::NONE };
    route.take(tables, scratch.ttl as u8, &mut scratch.outcome)?;
    Ok(route)
}
