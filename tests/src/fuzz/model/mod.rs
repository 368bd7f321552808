//! An independent opinion: what the RFCs, `docs/` and the operator's wish say becomes of a packet.
//!
//! What must hold here: nothing of lb's packet code is used. Headers are read and summed by smoltcp; of the planner
//! it takes what slot belongs to which backend; of the tables it knows nothing.

mod fragments;
mod read;
mod rewrite;
mod speak;
mod whom;

use lb_common::abi::Reason;
use lb_userspace::{
    model::{Affinity, BackendId, Forwarder, Fragments, MssClamp, OnEmpty, TtlExpired},
    plan::Pool,
};
use smoltcp::wire::IpProtocol;

use super::world::{SEED, World};
use crate::packets::flow_hash;
use fragments::{Known, Seen};
use read::{Content, Frame, Piece, Read, read};
use speak::Answer;

/// TCP's flags.
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

/// What becomes of a packet, by the model's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Why it leaves as it does.
    pub reason: Reason,
    /// The backend that it goes to or comes from.
    pub backend: Option<BackendId>,
    /// Whether it leaves by another interface than it came in by.
    pub redirected: bool,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// Where in it stand checksums that may be 0 as well as 0xffff: those that were wrong before.
    pub loose: Vec<usize>,
}

/// A rule of the model broken on purpose, for tests that show that the fuzzer would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Outer headers do not take over the ToS byte.
    OuterTos,
    /// TTL 1 is forwarded.
    LastHop,
    /// Ranges come before single ports.
    RangesFirst,
    /// Deny lists deny nobody.
    NobodyDenied,
    /// Overlapping fragments are let through.
    Overlaps,
    /// Answers about packets that are too big quote all of them.
    LongQuotes,
    /// The MSS is left as it is.
    NoClamp,
    /// Checksums of translated UDP are left as they are.
    StaleSum,
}

/// The model, and what it remembers.
#[derive(Debug)]
pub struct Model<'w> {
    world: &'w World,
    fragments: Seen,
    mistake: Option<Mistake>,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::OuterTos,
        Self::LastHop,
        Self::RangesFirst,
        Self::NobodyDenied,
        Self::Overlaps,
        Self::LongQuotes,
        Self::NoClamp,
        Self::StaleSum,
    ];
}

/// Whom a packet belongs to.
struct Place<'w> {
    pool: &'w Pool,
    backend: BackendId,
    hash: u64,
}

impl<'w> Model<'w> {
    /// Of that world.
    pub fn new(world: &'w World) -> Self {
        Self {
            world,
            fragments: Seen::default(),
            mistake: None,
        }
    }

    /// Of that world, with a rule broken.
    pub fn mistaken(world: &'w World, mistake: Mistake) -> Self {
        Self {
            mistake: Some(mistake),
            ..Self::new(world)
        }
    }

    fn errs(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// What becomes of a frame that comes in by the front interface.
    pub fn judge(&mut self, frame: &[u8]) -> Said {
        let read = match read(frame) {
            Frame::NotIp => return unchanged(Reason::NotIp, frame),
            Frame::Cut => return unchanged(Reason::NoService, frame),
            Frame::Packet(read) => read,
        };
        match self.serve(&read, frame) {
            Ok(said) => said,
            Err(reason) => unchanged(reason, frame),
        }
    }

    fn serve(&mut self, read: &Read, frame: &[u8]) -> Result<Said, Reason> {
        let flow = match &read.content {
            Content::Nothing(_) if !self.concerns(read) => return Err(Reason::NoService),
            Content::Nothing(_) if self.clashes(read) => return Err(Reason::BadFragment),
            Content::Nothing(reason) => return Err(*reason),
            Content::Echo if self.is_vip(read.destination) && speak::is_from_one_to_one(read, frame) => {
                let (frame, loose) = speak::echo(read, frame);
                return Ok(Said {
                    loose,
                    ..sent(Reason::EchoReply, frame)
                });
            }
            Content::Echo => return Err(Reason::NoService),
            Content::Ported { ports, .. } => Flow {
                client: read.source,
                ports: *ports,
                protocol: read.protocol,
            },
            Content::Error(quote) => Flow {
                client: quote.destination,
                ports: [quote.ports[1], quote.ports[0]],
                protocol: quote.protocol,
            },
            Content::Later => Flow {
                client: read.source,
                ports: [0; 2],
                protocol: read.protocol,
            },
        };
        let (flow, pool) = self.whom(read, flow)?;
        let Some(pool) = pool else {
            return self.give_back(read, frame, flow);
        };
        if !self.permits(pool, flow.client) {
            return Err(Reason::Denied);
        }
        if read.piece.is_some() && pool.service.fragments == Fragments::Drop {
            return Err(Reason::Fragment);
        }
        let place = self.place(pool, read, &flow);
        if read.ttl <= 1 && !self.stays(pool, place.as_ref()) && !self.errs(Mistake::LastHop) {
            return match pool.service.ttl_expired {
                TtlExpired::Drop => Err(Reason::TtlExpired),
                TtlExpired::Answer => self
                    .answer(read, frame, Answer::TimeExceeded)
                    .ok_or(Reason::TtlExpired),
            };
        }
        match place {
            Some(place) => self.send(&place, read, frame),
            None => self.without_backends(pool, read, frame),
        }
    }

    /// Whether the packet is left to this host, for which its last hop is far enough.
    fn stays(&self, pool: &Pool, place: Option<&Place<'_>>) -> bool {
        let Some(place) = place else {
            return pool.service.on_empty == OnEmpty::Pass;
        };
        let backend = pool.service.backend(place.backend);
        backend.is_some_and(|backend| backend.forwarder_in_use(&pool.service) == Forwarder::Local)
    }

    /// The flow with what fragments that came before tell of it, and its service.
    fn whom(&mut self, read: &Read, flow: Flow) -> Result<(Flow, Option<&'w Pool>), Reason> {
        let Some(piece) = read.piece else {
            let pool = self.service(read.destination, flow.protocol, flow.ports[1]);
            return Ok((flow, pool));
        };
        if piece.start == 0 && !self.concerns(read) {
            return Ok((flow, None));
        }
        let (flow, overlaps) = match self.note(read, piece, &flow) {
            Known::Flow(flow) => (flow, false),
            Known::Overlap(flow) => (flow, true),
            Known::Hiding if self.concerns(read) => return Err(Reason::BadFragment),
            Known::Hiding => return Err(Reason::NoService),
            Known::Nothing => return Ok((flow, Some(self.stray(read)?))),
        };
        let pool = self.service(read.destination, flow.protocol, flow.ports[1]);
        // What overlaps is no business of the balancer's if it is for nobody here.
        if overlaps {
            return Err(pool.map_or(Reason::NoService, |_| Reason::BadFragment));
        }
        Ok((flow, pool))
    }

    fn note(&mut self, read: &Read, piece: Piece, flow: &Flow) -> Known {
        let strict = !self.errs(Mistake::Overlaps);
        self.fragments.add(read, piece, flow, strict)
    }

    /// Whether it is a fragment that overlaps another.
    fn clashes(&self, read: &Read) -> bool {
        read.piece
            .is_some_and(|piece| self.fragments.clashes(read, piece))
    }

    fn permits(&self, pool: &Pool, client: std::net::IpAddr) -> bool {
        let Some(source) = &pool.service.source else {
            return true;
        };
        let longest = |list: &[lb_userspace::model::Prefix]| {
            let holding = list.iter().filter(|prefix| prefix.contains(client));
            holding.map(|prefix| prefix.length()).max()
        };
        match (longest(&source.allow), longest(&source.deny)) {
            (None, None) => source.allow.is_empty(),
            (Some(allow), Some(deny)) => allow > deny,
            (_, None) => true,
            (None, Some(_)) => self.errs(Mistake::NobodyDenied),
        }
    }

    fn place(&self, pool: &'w Pool, read: &Read, flow: &Flow) -> Option<Place<'w>> {
        let by_client = pool.service.affinity == Affinity::ClientIp
            || read.piece.is_some() && pool.service.fragments == Fragments::Hash3;
        let ports = if by_client { [0; 2] } else { flow.ports };
        let hash = flow_hash(flow.client, ports, SEED);
        let owners = pool.owners.as_ref()?;
        let owner = owners[(hash >> 48) as usize % owners.len()];
        Some(Place {
            pool,
            backend: pool.members[usize::from(owner)].id,
            hash,
        })
    }

    fn without_backends(&self, pool: &Pool, read: &Read, frame: &[u8]) -> Result<Said, Reason> {
        match pool.service.on_empty {
            OnEmpty::Pass => Err(Reason::EmptyPassed),
            OnEmpty::Drop => Err(Reason::NoBackend),
            OnEmpty::Reject => self
                .answer(read, frame, Answer::Rejected)
                .ok_or(Reason::NoBackend),
        }
    }

    /// Toward its backend.
    fn send(&self, place: &Place<'_>, read: &Read, frame: &[u8]) -> Result<Said, Reason> {
        let service = &place.pool.service;
        let backend = service.backend(place.backend).ok_or(Reason::Unresolved)?;
        let forwarder = backend.forwarder_in_use(service);
        if forwarder == Forwarder::Local {
            return Ok(Said {
                backend: Some(place.backend),
                ..unchanged(Reason::Local, frame)
            });
        }
        let hop = self.world.next_hop(backend.address).ok_or(Reason::Unresolved)?;
        let carries = hop.mtu as usize - rewrite::overhead(forwarder, backend.address);
        if read.len > carries {
            return self
                .answer(read, frame, Answer::TooBig(carries as u16))
                .ok_or(Reason::TooBig);
        }
        let mut frame = frame.to_vec();
        let mut loose = Vec::new();
        let has_syn = matches!(read.content, Content::Ported { flags, .. } if flags & SYN != 0);
        if has_syn && read.protocol == IpProtocol::Tcp && read.piece.is_none() && !self.errs(Mistake::NoClamp)
        {
            rewrite::clamp(
                read,
                &mut frame,
                self.largest_segment(place.pool, read.is_v6()),
                &mut loose,
            );
        }
        let (frame, loose) = rewrite::toward(self, place, backend, &hop, read, &frame, &loose);
        Ok(Said {
            reason: Reason::Forwarded,
            backend: Some(place.backend),
            redirected: hop.interface != self.world.interfaces().front,
            frame,
            loose,
        })
    }

    /// What a SYN of that service may ask for.
    fn largest_segment(&self, pool: &Pool, v6: bool) -> Option<u16> {
        let headers = if v6 { 60 } else { 40 };
        match pool.service.mss_clamp {
            MssClamp::Off => None,
            MssClamp::To(bytes) => Some(bytes),
            MssClamp::Auto => {
                let carries = |backend: &lb_userspace::model::Backend| {
                    let hop = self.world.next_hop(backend.address)?;
                    let forwarder = backend.forwarder_in_use(&pool.service);
                    Some(hop.mtu as usize - rewrite::overhead(forwarder, backend.address))
                };
                let narrowest = pool.service.backends.iter().filter_map(carries).min()?;
                Some((narrowest - headers).max(536) as u16)
            }
        }
    }

    fn answer(&self, read: &Read, frame: &[u8], answer: Answer) -> Option<Said> {
        let is_reset = answer == Answer::Rejected && read.protocol == IpProtocol::Tcp;
        let is_answerable = match &read.content {
            Content::Ported { flags, .. } if is_reset => read.piece.is_none() && flags & RST == 0,
            Content::Ported { .. } => read.piece.is_none() || read.is_first_fragment(),
            _ => false,
        };
        // RFC 1122 §3.2.2: not about what came from or to more than one host.
        if !is_answerable || !speak::is_from_one_to_one(read, frame) {
            return None;
        }
        let all = self.errs(Mistake::LongQuotes);
        let frame = if is_reset {
            speak::reset(read, frame)
        } else {
            speak::error(read, frame, answer, all)
        };
        Some(sent(answer.reason(), frame))
    }
}

/// A flow as its client sees it.
#[derive(Clone, Copy, Debug)]
struct Flow {
    client: std::net::IpAddr,
    /// The client's, and the service's.
    ports: [u16; 2],
    protocol: IpProtocol,
}

fn unchanged(reason: Reason, frame: &[u8]) -> Said {
    sent(reason, frame.to_vec())
}

fn sent(reason: Reason, frame: Vec<u8>) -> Said {
    Said {
        reason,
        backend: None,
        redirected: false,
        frame,
        loose: Vec::new(),
    }
}
