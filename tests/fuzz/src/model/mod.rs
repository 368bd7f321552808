//! An independent opinion: what the RFCs, `docs/` and the operator's declared services say becomes of a packet.
//!
//! What must hold here: nothing of lb's packet code is used. Headers are read and summed by smoltcp; of the planner
//! it takes what slot belongs to which backend; of the tables it knows nothing.

mod answers;
mod forward;
mod fragments;
mod fullnat;
mod headers;
pub(super) mod parse;
mod quic;
mod reverse;
mod rewrite;
mod service;
mod tracked;
mod translate;
mod unserved;

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::Reason;
use lb_core::desired::{Affinity, BackendId, Forwarder, Fragments, OnEmpty, TtlExpired};
use lb_core::plan::Pool;

use answers::Answer;
use fragments::{Known, Seen};
use fullnat::FullnatFlows;
use lb_packets::{Mac, flow_hash};
use lb_world::{OWN_MAC, SEED, UPPER_MAC, VIRTUAL_MAC, World};
use parse::{Content, Frame, Parsed, Piece, parse};
use tracked::{Owners, Tracked};
use translate::Ends;

/// MACs of the balancer.
const OWN_MACS: [Mac; 3] = [OWN_MAC, UPPER_MAC, VIRTUAL_MAC];
/// TCP's flags.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What becomes of a packet, by the model's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
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
    /// What is wrong with what the program chose.
    pub fault: Option<&'static str>,
    /// Whether the program has to remember it: a fragment, or one of a flow through `fullnat`.
    pub is_noted: bool,
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
    /// UDP's checksum may come to zero.
    ZeroSum,
    /// Errors that go through `fullnat` show the router that sent them.
    VisibleRouter,
    /// Packets that errors quote are not translated.
    StaleQuote,
    /// Frames to clients carry no tags.
    UntaggedBack,
    /// Connection IDs name nobody.
    Nameless,
    /// Slots have always been whose they are now.
    Forgetful,
    /// Flows do not end.
    Endless,
    /// No flow through `fullnat` is refused for want of a source.
    NeverFull,
    /// Frames for other hosts are for this one.
    AnyHost,
    /// What no service takes is the host's.
    Unserved,
    /// Frames for groups are for this host, whoever their packets are for.
    AnyGroup,
}

/// The model, and what it remembers.
#[derive(Debug)]
pub struct Model<'w> {
    world: &'w World,
    fragments: Seen,
    fullnat: FullnatFlows,
    tracked: Tracked,
    /// Whether the packet that is judged changes what the program remembers.
    noted: bool,
    mistake: Option<Mistake>,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::OuterTos,
        Self::LastHop,
        Self::RangesFirst,
        Self::NobodyDenied,
        Self::Overlaps,
        Self::LongQuotes,
        Self::NoClamp,
        Self::StaleSum,
        Self::ZeroSum,
        Self::VisibleRouter,
        Self::StaleQuote,
        Self::UntaggedBack,
        Self::Nameless,
        Self::Forgetful,
        Self::Endless,
        Self::NeverFull,
        Self::AnyHost,
        Self::AnyGroup,
        Self::Unserved,
    ];
}

/// The backend that a packet belongs to.
struct Selection<'w> {
    pool: &'w Pool,
    backend: BackendId,
    hash: u64,
}

impl<'w> Model<'w> {
    /// Of that world, with that rule broken.
    pub fn new(world: &'w World, mistake: Option<Mistake>) -> Self {
        Self {
            world,
            fragments: Seen::default(),
            fullnat: FullnatFlows::default(),
            tracked: Tracked::default(),
            noted: false,
            mistake,
        }
    }

    fn errs(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// What becomes of a frame that comes in by the front interface. Of `shown`, which the program sent, it takes what
    /// address and port of the pool a new flow has got.
    pub fn judge(&mut self, frame: &[u8], shown: &[u8]) -> Expected {
        let parsed = match parse(frame) {
            Frame::NotIp => return unchanged(Reason::NotIp, frame),
            Frame::Cut => return unchanged(Reason::NoService, frame),
            Frame::Packet(parsed) => parsed,
        };
        if !self.is_for_this_host(&parsed, frame) {
            return unchanged(Reason::OtherHost, frame);
        }
        self.noted = parsed.piece.is_some();
        let mut expected = match self.serve(&parsed, frame, shown) {
            Ok(expected) => expected,
            Err(Reason::NoService) => self.for_no_service(&parsed, frame),
            Err(reason) => unchanged(reason, frame),
        };
        expected.is_noted = self.noted;
        expected
    }

    /// RFC 1122 §3.3.4 and §3.3.6: not a frame for another host, nor one for a group whose packet is for one host.
    fn is_for_this_host(&self, parsed: &Parsed, frame: &[u8]) -> bool {
        let is_for_group = match parsed.destination {
            IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_multicast(),
        };
        if frame[0] & 1 != 0 {
            is_for_group || self.errs(Mistake::AnyGroup)
        } else {
            OWN_MACS.iter().any(|mac| frame.starts_with(mac)) || self.errs(Mistake::AnyHost)
        }
    }

    fn serve(&mut self, parsed: &Parsed, frame: &[u8], shown: &[u8]) -> Result<Expected, Reason> {
        let ends = |client: IpAddr, [from, to]: [u16; 2], protocol| Ends {
            protocol,
            source: SocketAddr::new(client, from),
            destination: SocketAddr::new(parsed.destination, to),
        };
        let flow = match &parsed.content {
            Content::Nothing(_) if !self.concerns(parsed) => return Err(Reason::NoService),
            Content::Nothing(_) if self.clashes(parsed) => return Err(Reason::BadFragment),
            Content::Nothing(reason) => return Err(*reason),
            Content::Echo
                if self.is_vip(parsed.destination) && answers::is_from_one_to_one(parsed, frame) =>
            {
                let (frame, loose) = answers::echo(parsed, frame);
                return Ok(Expected {
                    loose,
                    ..sent(Reason::EchoReply, frame)
                });
            }
            Content::Echo => return Ok(unchanged(Reason::NoService, frame)),
            Content::Ported { ports, .. } => ends(parsed.source, *ports, parsed.protocol),
            Content::Error(quote) => {
                let [from, to] = quote.ports;
                ends(quote.destination, [to, from], quote.protocol)
            }
            Content::Later => ends(parsed.source, [0; 2], parsed.protocol),
        };
        let (flow, pool) = self.flow_and_service(parsed, flow)?;
        let Some(pool) = pool else {
            return self.send_back(parsed, frame, &flow);
        };
        if !self.permits(pool, flow.source.ip()) {
            return Err(Reason::Denied);
        }
        if !matches!(parsed.content, Content::Error(_)) {
            let flags = self.flags(pool, parsed, frame);
            self.noted |= self.fullnat.meet(&flow, flags);
        }
        if parsed.piece.is_some() && pool.service.fragments == Fragments::Drop {
            return Err(Reason::Fragment);
        }
        let selection = self.select(pool, parsed, &flow, frame);
        if parsed.ttl <= 1 && !self.stays(pool, selection.as_ref()) && !self.errs(Mistake::LastHop) {
            return match pool.service.ttl_expired {
                TtlExpired::Drop => Err(Reason::TtlExpired),
                TtlExpired::Answer => self
                    .answer(parsed, frame, Answer::TimeExceeded)
                    .ok_or(Reason::TtlExpired),
            };
        }
        match selection {
            Some(selection) => self.send(&selection, parsed, frame, &flow, shown),
            None => self.without_backends(pool, parsed, frame),
        }
    }

    /// TCP's flags, or what means the same: whether a packet opens its flow or ends it.
    fn flags(&self, pool: &Pool, parsed: &Parsed, frame: &[u8]) -> u8 {
        let flags = if quic::opens(pool, parsed, frame) {
            SYN
        } else {
            parsed.flags()
        };
        if self.errs(Mistake::Endless) {
            flags & !(FIN | RST)
        } else {
            flags
        }
    }

    /// Whether the packet is left to this host, for which its last hop is far enough.
    fn stays(&self, pool: &Pool, selection: Option<&Selection<'_>>) -> bool {
        let Some(selection) = selection else {
            return pool.service.on_empty == OnEmpty::Pass;
        };
        let backend = pool.service.backend(selection.backend);
        backend.is_some_and(|backend| backend.forwarder_in_use(&pool.service) == Forwarder::Local)
    }

    /// The flow with what fragments that came before tell of it, and its service.
    fn flow_and_service(&mut self, parsed: &Parsed, flow: Ends) -> Result<(Ends, Option<&'w Pool>), Reason> {
        let Some(piece) = parsed.piece else {
            let pool = self.service(parsed.destination, flow.protocol, flow.destination.port());
            return Ok((flow, pool));
        };
        if piece.start == 0 && !self.concerns(parsed) {
            return Ok((flow, None));
        }
        let (flow, overlaps) = match self.note(parsed, piece, &flow) {
            Known::Flow(flow) => (flow, false),
            Known::Overlap(flow) => (flow, true),
            Known::Hiding if self.concerns(parsed) => return Err(Reason::BadFragment),
            Known::Hiding => return Err(Reason::NoService),
            Known::Nothing => return Ok((flow, Some(self.stray(parsed)?))),
        };
        let pool = self.service(parsed.destination, flow.protocol, flow.destination.port());
        // What overlaps is no business of the balancer's if it is for nobody here.
        if overlaps {
            return Err(pool.map_or(Reason::NoService, |_| Reason::BadFragment));
        }
        Ok((flow, pool))
    }

    fn note(&mut self, parsed: &Parsed, piece: Piece, flow: &Ends) -> Known {
        let strict = !self.errs(Mistake::Overlaps);
        self.fragments.add(parsed, piece, flow, strict)
    }

    /// Whether it is a fragment that overlaps another.
    fn clashes(&self, parsed: &Parsed) -> bool {
        parsed
            .piece
            .is_some_and(|piece| self.fragments.clashes(parsed, piece))
    }

    fn permits(&self, pool: &Pool, client: IpAddr) -> bool {
        let Some(source) = &pool.service.source else {
            return true;
        };
        let longest = |list: &[lb_core::desired::Prefix]| {
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

    fn select(
        &mut self,
        pool: &'w Pool,
        parsed: &Parsed,
        flow: &Ends,
        frame: &[u8],
    ) -> Option<Selection<'w>> {
        let is_stray = parsed.piece.is_some() && pool.service.fragments == Fragments::Hash3;
        let flow_ports = [flow.source.port(), flow.destination.port()];
        let by_client = pool.service.affinity == Affinity::ClientIp || is_stray;
        let ports = if by_client { [0; 2] } else { flow_ports };
        let hash = flow_hash(flow.source.ip(), ports, SEED);
        let known = self.fullnat.flow(flow).map(|known| known.backend);
        if let Some(backend) = known.or_else(|| self.named(pool, parsed, frame)) {
            return Some(Selection { pool, backend, hash });
        }
        let slot = (hash >> 48) as usize % pool.owners.as_ref()?.len();
        let [current, previous] = self.world.owners(pool, slot)?;
        if current == previous || self.errs(Mistake::Forgetful) {
            return Some(Selection {
                pool,
                backend: current,
                hash,
            });
        }
        // Neither errors about a flow nor what gets no further are of the flow.
        let leaves_traces = !matches!(parsed.content, Content::Error(_)) && parsed.ttl > 1;
        self.noted |= leaves_traces;
        let flags = self.flags(pool, parsed, frame);
        let ports = if is_stray { [0; 2] } else { flow_ports };
        let key = (self.world.number(pool), flow.source.ip(), ports);
        let slot = Owners { current, previous };
        Some(Selection {
            pool,
            backend: self.tracked.select(key, slot, flags, leaves_traces),
            hash,
        })
    }

    fn without_backends(&self, pool: &Pool, parsed: &Parsed, frame: &[u8]) -> Result<Expected, Reason> {
        match pool.service.on_empty {
            OnEmpty::Pass => Err(Reason::EmptyPassed),
            OnEmpty::Drop => Err(Reason::NoBackend),
            OnEmpty::Reject => self
                .answer(parsed, frame, Answer::Rejected)
                .ok_or(Reason::NoBackend),
        }
    }
}

fn unchanged(reason: Reason, frame: &[u8]) -> Expected {
    sent(reason, frame.to_vec())
}

fn sent(reason: Reason, frame: Vec<u8>) -> Expected {
    Expected {
        reason,
        backend: None,
        redirected: false,
        frame,
        loose: Vec::new(),
        fault: None,
        is_noted: false,
    }
}
