//! The way back: what `nat` and `fullnat` backends send to their clients.

use lb_common::abi::Reason;
use lb_core::desired::{BackendId, Forwarder, TtlExpired};
use lb_core::plan::Pool;
use lb_world::{OWN_MAC, ROUTER_MAC};

use super::{
    Expected, Mistake, Model,
    answers::Answer,
    fragments::Known,
    parse::Parsed,
    rewrite::{Packet, link},
    service::number,
    translate::Ends,
};
use crate::world::{OWN, way_to_client};

/// A flow from a backend.
struct Found<'w> {
    pool: &'w Pool,
    backend: BackendId,
    /// As its client is to see it.
    to: Ends,
}

impl<'w> Model<'w> {
    /// What a backend sends back, as its client is to see it.
    pub(super) fn send_back(
        &mut self,
        parsed: &Parsed,
        frame: &[u8],
        from: &Ends,
    ) -> Result<Expected, Reason> {
        let found = self
            .fullnat
            .behind(from)
            .map(|(known, to)| Found {
                pool: &self.world.pools[known.pool],
                backend: known.backend,
                to,
            })
            .or_else(|| self.through_nat(from))
            .ok_or(Reason::NoService)?;
        let to = found.to;
        if OWN.contains(&to.destination.ip()) {
            return Err(Reason::NoService);
        }
        let (mtu, vlan) = way_to_client(to.destination.ip());
        let vlan = vlan.filter(|_| !self.errs(Mistake::UntaggedBack));
        if parsed.len > mtu {
            return self
                .answer_backend(parsed, frame, Answer::TooBig(mtu as u16))
                .ok_or(Reason::TooBig);
        }
        if parsed.ttl <= 1 {
            let told = match found.pool.service.ttl_expired {
                TtlExpired::Drop => None,
                TtlExpired::Answer => self.answer_backend(parsed, frame, Answer::TimeExceeded),
            };
            return told.ok_or(Reason::TtlExpired);
        }
        if let Some(piece) = parsed.piece
            && piece.start == 0
            && !self.concerns(parsed)
            && let Known::Overlap(_) = self.note(parsed, piece, from)
        {
            return Err(Reason::BadFragment);
        }
        let (mut frame, mut loose) = (frame.to_vec(), Vec::new());
        self.clamp(found.pool, parsed, &mut frame, &mut loose);
        let mut packet = Packet::new(parsed, &frame, &loose);
        packet.hop();
        packet.translate(from, &to, self.mistake);
        let (frame, loose) = packet.framed(&link(ROUTER_MAC, OWN_MAC, vlan, parsed.is_v6()));
        Ok(Expected {
            backend: Some(found.backend),
            loose,
            ..super::sent(Reason::Returned, frame)
        })
    }

    /// A flow from a `nat` backend, which its source alone tells.
    fn through_nat(&self, from: &Ends) -> Option<Found<'w>> {
        let pools = self.world.pools.iter();
        let backends =
            pools.flat_map(|pool| pool.service.backends.iter().map(move |backend| (pool, backend)));
        let (pool, backend) = backends.into_iter().find(|(pool, backend)| {
            let service = &pool.service;
            let its_port = backend.port.or(service.port.exact()).map(u16::from);
            backend.forwarder_in_use(service) == Forwarder::Nat
                && pool.members.iter().any(|member| member.id == backend.id())
                && backend.address == from.source.ip()
                && number(service.protocol) == from.protocol
                && its_port.is_none_or(|its| its == from.source.port())
        })?;
        let mut to = *from;
        let vip = pool
            .vips
            .iter()
            .find(|vip| vip.is_ipv6() == from.source.is_ipv6())?;
        to.source.set_ip(vip.host()?);
        if let Some(port) = pool.service.port.exact() {
            to.source.set_port(port.get());
        }
        Some(Found {
            pool,
            backend: backend.id(),
            to,
        })
    }
}
