//! From a `nat` backend to its client.

use crate::abi::{Direction, Features, Reason, Target};

use super::{
    Outcome, Packet, Route, RouteQuery, Tables,
    family::Family,
    parse::{Ip, Transport},
    rewrite,
    services::Lookup,
};

/// A packet for no service may still be a nat backend's answer: the VIP becomes its source again.
#[inline(always)]
pub(super) fn give_back<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<F::Address>,
    transport: &Transport,
    outcome: &mut Outcome,
) -> Result<Reason, Reason> {
    if !tables.features().has(Features::RETURNS) {
        return Err(Reason::NoService);
    }
    let service = Lookup::<F, T>::new(tables)
        .exact_or_any(
            ip.source,
            transport.source_port(),
            ip.protocol,
            Direction::FromBackend,
        )
        .ok_or(Reason::NoService)?;
    let target = tables.target(service.target_base).ok_or(Reason::NoService)?;
    let query = RouteQuery {
        v6: F::V6,
        source: target.addresses[Target::VIP],
        destination: F::wide(ip.destination),
        protocol: ip.protocol,
        tos: ip.tos,
        len: ip.len,
    };
    let (macs_head, macs_tail, egress) = match tables.route(&query) {
        // The backend talks to this host itself, as it does when it answers a heartbeat.
        Route::Local => return Err(Reason::NoService),
        Route::Hop {
            macs_head,
            macs_tail,
            egress,
        } => (macs_head, macs_tail, egress),
        Route::TooBig => return Err(Reason::TooBig),
        Route::None => return Err(Reason::NoWayBack),
    };
    outcome.service = service.id;
    outcome.target = service.target_base;
    if ip.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    if egress != tables.ingress() {
        outcome.egress = egress;
    }
    rewrite::set_macs(packet, macs_head, macs_tail)?;
    rewrite::nat::<F, P>(packet, ip, transport, &rewrite::Nat::to_client::<F>(target))?;
    Ok(Reason::Returned)
}
