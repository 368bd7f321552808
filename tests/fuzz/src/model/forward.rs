//! The way to a backend.

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::Reason;
use lb_core::desired::{Backend, Forwarder, MssClamp};
use lb_core::plan::Pool;
use smoltcp::wire::IpProtocol;

use super::{
    Expected, Mistake, Model, SYN, Selection,
    answers::Answer,
    fullnat::{Refusal, SEARCHED},
    parse::{Content, Frame, Parsed, parse},
    rewrite::{self, Packet},
    translate::Ends,
    unchanged,
};

impl Model<'_> {
    /// Toward its backend.
    pub(super) fn send(
        &mut self,
        selection: &Selection<'_>,
        parsed: &Parsed,
        frame: &[u8],
        flow: &Ends,
        shown: &[u8],
    ) -> Result<Expected, Reason> {
        let service = &selection.pool.service;
        let backend = service.backend(selection.backend).ok_or(Reason::Unresolved)?;
        let forwarder = backend.forwarder_in_use(service);
        if forwarder == Forwarder::Local {
            return Ok(Expected {
                backend: Some(selection.backend),
                ..unchanged(Reason::Local, frame)
            });
        }
        let hop = self.world.next_hop(backend.address).ok_or(Reason::Unresolved)?;
        let carries = hop.mtu as usize - rewrite::overhead(forwarder, backend.address);
        if parsed.len > carries {
            return self
                .answer(parsed, frame, Answer::TooBig(carries as u16))
                .ok_or(Reason::TooBig);
        }
        let mut fault = None;
        let to = match forwarder {
            Forwarder::Nat => seen_by(backend, flow),
            Forwarder::Fullnat => {
                match self.fullnat_ends(selection, backend, parsed, flow, shown) {
                    Ok(inside) => inside,
                    // About no flow that is known.
                    Err(_) if matches!(parsed.content, Content::Error(_)) => return Err(Reason::NoService),
                    Err(Refusal::Full) if !self.errs(Mistake::NeverFull) => {
                        // Where all places were looked at, it is told.
                        let places = self.world.source_pool().capacity(parsed.is_v6());
                        let told = (places <= SEARCHED)
                            .then(|| self.answer(parsed, frame, Answer::NoSource))
                            .flatten();
                        return told.ok_or(Reason::NoSourcePort);
                    }
                    Err(Refusal::Full) => *flow,
                    Err(Refusal::Wrong(why)) => {
                        fault = Some(why);
                        *flow
                    }
                }
            }
            _ => *flow,
        };
        let (mut frame, mut loose) = (frame.to_vec(), Vec::new());
        self.clamp(selection.pool, parsed, &mut frame, &mut loose);
        let packet = Packet::new(parsed, &frame, &loose);
        let (frame, loose) = rewrite::toward(self, selection, backend, &hop, packet, [flow, &to]);
        Ok(Expected {
            reason: Reason::Forwarded,
            backend: Some(selection.backend),
            redirected: hop.interface != self.world.interfaces().front,
            frame,
            loose,
            fault,
            ..unchanged(Reason::Forwarded, &[])
        })
    }

    /// The ends of a flow as its backend sees them, where that is reached by `fullnat`.
    fn fullnat_ends(
        &mut self,
        selection: &Selection<'_>,
        backend: &Backend,
        parsed: &Parsed,
        flow: &Ends,
        shown: &[u8],
    ) -> Result<Ends, Refusal> {
        let seen = source_of(shown, parsed.is_v6());
        if let Some(known) = self.fullnat.recall(flow, seen) {
            return known;
        }
        if matches!(parsed.content, Content::Error(_)) {
            return Err(Refusal::Full);
        }
        let whose = (self.world.number(selection.pool), selection.backend);
        let inside = seen_by(backend, flow);
        self.noted = true;
        self.fullnat.add(
            self.world.source_pool(),
            flow,
            inside,
            whose,
            seen,
            parsed.flags(),
        )
    }

    /// Makes the MSS that a SYN asks for small enough.
    pub(super) fn clamp(&self, pool: &Pool, parsed: &Parsed, frame: &mut [u8], loose: &mut Vec<usize>) {
        let has_syn = matches!(parsed.content, Content::Ported { flags, .. } if flags & SYN != 0);
        if has_syn
            && parsed.protocol == IpProtocol::Tcp
            && parsed.piece.is_none()
            && !self.errs(Mistake::NoClamp)
        {
            let limit = self.largest_segment(pool, parsed.is_v6());
            rewrite::clamp(parsed, frame, limit, loose);
        }
    }

    /// What a SYN of that service may ask for.
    fn largest_segment(&self, pool: &Pool, v6: bool) -> Option<u16> {
        let headers = if v6 { 60 } else { 40 };
        match pool.service.mss_clamp {
            MssClamp::Off => None,
            MssClamp::To(bytes) => Some(bytes),
            MssClamp::Auto => {
                let carries = |backend: &Backend| {
                    let hop = self.world.next_hop(backend.address)?;
                    let forwarder = backend.forwarder_in_use(&pool.service);
                    Some(hop.mtu as usize - rewrite::overhead(forwarder, backend.address))
                };
                let narrowest = pool.service.backends.iter().filter_map(carries).min()?;
                Some((narrowest - headers).max(536) as u16)
            }
        }
    }
}

/// A flow's ends with the backend's address and port in place of the service's.
fn seen_by(backend: &Backend, flow: &Ends) -> Ends {
    let mut seen = *flow;
    seen.destination.set_ip(backend.address);
    if let Some(port) = backend.port {
        seen.destination.set_port(port.into());
    }
    seen
}

/// Where a frame that was sent is from: port 0 if it shows none.
fn source_of(shown: &[u8], v6: bool) -> SocketAddr {
    let Frame::Packet(parsed) = parse(shown) else {
        return SocketAddr::new(
            if v6 {
                IpAddr::from([0; 16])
            } else {
                IpAddr::from([0; 4])
            },
            0,
        );
    };
    let port = match parsed.content {
        Content::Ported {
            ports: [source, _], ..
        } => source,
        _ => 0,
    };
    SocketAddr::new(parsed.source, port)
}
