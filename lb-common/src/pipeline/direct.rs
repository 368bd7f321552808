//! The direct way: what nearly all packets take. It knows the plain packet only (no VLAN tag, TCP or UDP, no fragment,
//! no IPv6 extension header, a service without extras) and sends all others on the [`mod@super::detour`].
//!
//! Invariant: a packet that is sent on the detour is as it came.

use crate::{
    abi::{Direction, Features, Reason, Selector, ServiceEntry, ServiceFlags},
    net::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, ETHERTYPE_VLAN_OUTER, load16},
};

use super::{
    Outcome, Packet, Tables,
    early::{DETOUR, LeaveEarly},
    echo,
    family::{Family, V4, V6},
    link,
    parse::{self, Ip, Transport},
    reverse_nat::{NoClientRoute, answer_of},
    rewrite,
    select::{flow_hash, pick},
    services::Lookup,
};

/// Takes a packet all the way and says why it left as it did, `outcome` saying more; `None` if it has to take the
/// detour.
///
/// The outcome is the caller's memory on purpose: returned by value, its fields would be set anew on every way out.
#[inline(always)]
pub fn direct<P: Packet, T: Tables>(packet: &mut P, tables: &T, outcome: &mut Outcome) -> Option<Reason> {
    match by_family(packet, tables, outcome) {
        Ok(reason) => Some(reason),
        Err(early) => early,
    }
}

#[inline(always)]
fn by_family<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    outcome: &mut Outcome,
) -> Result<Reason, LeaveEarly> {
    let ethernet: &[u8; ETHERNET] = packet.view(0).ok_or(Reason::NotIp)?;
    match load16(ethernet, 12) {
        ETHERTYPE_IPV4 => balance::<V4, P, T>(packet, tables, outcome),
        ETHERTYPE_IPV6 => balance::<V6, P, T>(packet, tables, outcome),
        ETHERTYPE_VLAN | ETHERTYPE_VLAN_OUTER => Err(DETOUR),
        _ => Err(Some(Reason::NotIp)),
    }
}

#[inline(always)]
fn balance<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    outcome: &mut Outcome,
) -> Result<Reason, LeaveEarly> {
    // A frame too short to name a destination is for no service.
    let ip = F::parse(packet, ETHERNET).ok_or(Reason::NoService)?;
    link::check::<F, P, T>(packet, tables, ip.destination)?;
    let Ok(transport) = parse::transport(packet, &ip) else {
        return without_ports::<F, P, T>(packet, tables, &ip);
    };
    outcome.bytes = u32::from(ip.len);
    outcome.tcp_flags = u16::from(transport.flags);

    let lookup = Lookup::<F, T>::new(tables);
    let (port, to_service) = (transport.destination_port(), Direction::ToService);
    let service = match lookup.exact(ip.destination, port, ip.protocol, to_service) {
        // A range that holds the port comes before any port.
        None if tables.features().intersects(Features::RANGES) => return Err(DETOUR),
        None => lookup.any(ip.destination, ip.protocol, to_service),
        exact => exact,
    };
    let Some(service) = service else {
        return answer::<F, P, T>(packet, tables, &ip, &transport, outcome);
    };
    outcome.service = service.id;
    if ip.ttl <= 1 || service.flags.intersects(ServiceFlags::DETOURS) && detours(&service, &transport) {
        return Err(DETOUR);
    }
    let hash = flow_hash::<F>(&service, ip.source, transport.ports, tables.seed());
    let flow = || F::hash(ip.source, transport.ports, tables.seed());
    let target = match pick(tables, &service, hash, flow, true, outcome) {
        Ok(target) => target,
        Err(Reason::NoBackend) if service.flags.intersects(ServiceFlags::REJECT_WHEN_EMPTY) => {
            return Err(DETOUR);
        }
        Err(reason) => return Err(Some(reason)),
    };
    if ip.len > target.max_len {
        // Also so with an unresolved target, whose line is all zero.
        return Err(DETOUR);
    }
    outcome.leave_by(target.egress, tables.ingress());
    let target = (outcome.target, target);
    rewrite::toward_backend::<F, P, T>(packet, tables, target, &ip, &transport, hash)?;
    Ok(Reason::Forwarded)
}

/// Whether it is one of the packets that a service sends on the detour which does so with some.
#[inline(always)]
fn detours(service: &ServiceEntry, transport: &Transport) -> bool {
    transport.is_syn() || service.flags.intersects(ServiceFlags::DETOUR)
}

/// A packet that shows no ports: ICMP, a fragment, something broken or something else.
#[inline(always)]
fn without_ports<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<F::Address>,
) -> Result<Reason, LeaveEarly> {
    if Lookup::<F, T>::new(tables)
        .find(ip.destination, Selector::VIP)
        .is_none()
    {
        // A prefix may hold the VIP, and errors about translated packets go to clients.
        let elsewhere = Features::RANGES | Features::RETURNS | Features::FULLNAT;
        let is_concerned = tables.features().intersects(elsewhere);
        return Err(if is_concerned {
            DETOUR
        } else {
            Some(Reason::NoService)
        });
    }
    if ip.protocol == F::ICMP && ip.oddity.is_none() {
        return echo::answer::<F, P>(packet, ip);
    }
    Err(DETOUR)
}

/// The answer of a backend, if it is one.
#[inline(always)]
fn answer<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<F::Address>,
    transport: &Transport,
    outcome: &mut Outcome,
) -> Result<Reason, LeaveEarly> {
    let answer = answer_of::<F, T>(tables, ip, transport, outcome).map_err(|no_way| match no_way {
        NoClientRoute::TooBig(_) | NoClientRoute::Because(Reason::TtlExpired) => DETOUR,
        // Answers to the source pool of `fullnat` are not known by their source, nor is what a VIP refuses.
        NoClientRoute::Because(Reason::NoService)
            if tables
                .features()
                .intersects(Features::FULLNAT | Features::UNSERVED) =>
        {
            DETOUR
        }
        NoClientRoute::Because(reason) => Some(reason),
    })?;
    let route = &answer.route;
    if !route.is_known || !route.tags.is_empty() || answer.clamps && transport.is_syn() {
        return Err(DETOUR);
    }
    rewrite::set_macs(packet, route.macs.0, route.macs.1)?;
    Ok(answer.restore::<F, P>(packet, ip, transport)?)
}
