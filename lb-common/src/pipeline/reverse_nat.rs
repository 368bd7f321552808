//! From a `nat` backend to its client.

use crate::abi::{Direction, Features, FlowEnds, Reason, ServiceFlags, TagsEntry, TargetEntry};

use super::{
    Host, Outcome, Packet, Route, RouteQuery, ServiceTables,
    family::Family,
    parse::{Ip, Transport},
    rewrite,
    services::Lookup,
};

/// Where a backend's answer goes, and as what.
pub(super) struct ReversedPacket<'t> {
    /// The backend.
    pub(super) target: &'t TargetEntry,
    /// The way to the client.
    pub(super) route: ClientRoute,
    /// Whether the service bounds the MSS of SYNs, which the detour does.
    pub(super) clamps: bool,
}

/// The way to a client.
#[derive(Clone, Copy)]
pub(super) struct ClientRoute {
    /// MACs, laid out as in [`TargetEntry`].
    pub(super) macs: (u64, u32),
    /// The interface to send out of.
    pub(super) egress: u32,
    /// The VLAN tags that frames carry there.
    pub(super) tags: TagsEntry,
    /// Whether the next hop's MAC address is known. Otherwise the host's stack sends the packet, and all of this is zero.
    pub(super) is_known: bool,
}

impl ClientRoute {
    const BY_HOST: Self = Self {
        macs: (0, 0),
        egress: 0,
        tags: TagsEntry::NONE,
        is_known: false,
    };

    /// Has a packet with that TTL or hop limit leave this way.
    ///
    /// # Errors
    /// When its last hop was the one to the balancer.
    #[inline(always)]
    pub(super) fn take<T: Host>(&self, tables: &T, ttl: u8, outcome: &mut Outcome) -> Result<(), Reason> {
        if ttl <= 1 {
            return Err(Reason::TtlExpired);
        }
        outcome.leave_by(self.egress, tables.ingress());
        Ok(())
    }
}

/// Why an answer goes no further.
pub(super) enum NoClientRoute {
    /// For that reason.
    Because(Reason),
    /// No packet longer than this does.
    TooBig(u16),
}

impl From<Reason> for NoClientRoute {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self::Because(reason)
    }
}

/// The way of an answer.
///
/// # Errors
/// Why there is none.
#[inline(always)]
pub(super) fn way_back<T: Host>(tables: &T, query: &RouteQuery) -> Result<ClientRoute, NoClientRoute> {
    match tables.route(query) {
        // The backend talks to this host itself, as it does when it answers a health check.
        Route::Local => Err(Reason::NoService.into()),
        Route::Hop {
            macs_head,
            macs_tail,
            egress,
            tags,
        } => Ok(ClientRoute {
            macs: (macs_head, macs_tail),
            egress,
            tags,
            is_known: true,
        }),
        Route::NoNeighbour => Ok(ClientRoute::BY_HOST),
        Route::TooBig(mtu) => Err(NoClientRoute::TooBig(mtu)),
        Route::None => Err(Reason::NoWayBack.into()),
    }
}

/// A packet for no service may still be a nat backend's answer.
///
/// # Errors
/// Why it is none, or goes no further.
#[inline(always)]
pub(super) fn answer_of<'t, F: Family, T: ServiceTables + Host>(
    tables: &'t T,
    ip: &Ip<F::Address>,
    transport: &Transport,
    outcome: &mut Outcome,
) -> Result<ReversedPacket<'t>, NoClientRoute> {
    if !tables.features().intersects(Features::RETURNS) {
        return Err(Reason::NoService.into());
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
        source: target.addresses[TargetEntry::VIP],
        destination: F::wide(ip.destination),
        protocol: ip.protocol,
        tos: ip.tos,
        len: ip.len,
    };
    let route = way_back(tables, &query)?;
    outcome.service = service.id;
    outcome.target = service.target_base;
    route.take(tables, ip.ttl, outcome)?;
    Ok(ReversedPacket {
        target,
        route,
        clamps: service.flags.intersects(ServiceFlags::DETOUR_SYN),
    })
}

impl ReversedPacket<'_> {
    /// The ends of a flow from the backend as its client sees them.
    #[inline(always)]
    pub(super) fn to_client(&self, from: FlowEnds) -> FlowEnds {
        let (source, destination) = (from.ports as u16, (from.ports >> 16) as u16);
        let source = match self.target.vip_port {
            0 => source,
            port => port,
        };
        FlowEnds {
            source: self.target.addresses[TargetEntry::VIP],
            ports: FlowEnds::ports(source, destination),
            ..from
        }
    }

    /// Makes the VIP the packet's source again.
    #[inline(always)]
    pub(super) fn restore<F: Family, P: Packet>(
        &self,
        packet: &mut P,
        ip: &Ip<F::Address>,
        transport: &Transport,
    ) -> Result<Reason, Reason> {
        rewrite::nat::<F, P>(
            packet,
            ip,
            transport,
            &rewrite::NewEnd::to_client::<F>(self.target),
        )?;
        Ok(Reason::Returned)
    }
}
