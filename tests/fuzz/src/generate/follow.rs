//! What follows on packets that really went by: answers to them, errors about them, and themselves again.

use std::net::{Ipv4Addr, Ipv6Addr};

use lb_common::abi::Reason;
use rand::{Rng, rngs::StdRng};
use smoltcp::wire::{IpProtocol, checksum};

use super::{Generator, TTLS};
use crate::{
    machine::Did,
    model::parse::{Content, Frame, Parsed, parse},
    world::is_ordinary,
};

/// How many are remembered.
const REMEMBERED: usize = 96;
/// The longest case that is continued.
const LONGEST: usize = 5;

/// Packets that went by, and what the last one became.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// All that had to be sent for it.
    pub(super) frames: Vec<Vec<u8>>,
    /// The last one as it was sent on.
    pub(super) out: Vec<u8>,
}

/// The latest of them.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    latest: Vec<Exchange>,
    next: usize,
}

impl Exchanges {
    /// Remembers what became of a packet, if something can follow on it; `frames` ends with that packet.
    pub(super) fn note(&mut self, frames: &[Vec<u8>], did: &Did) {
        let went_by = matches!(did.reason, Reason::Forwarded | Reason::Returned);
        if !went_by || frames.len() > LONGEST || !frames.iter().all(|frame| is_between_ordinary(frame)) {
            return;
        }
        let exchange = Exchange {
            frames: frames.to_vec(),
            out: did.frame.clone(),
        };
        if self.latest.len() < REMEMBERED {
            self.latest.push(exchange);
        } else {
            self.latest[self.next] = exchange;
            self.next = (self.next + 1) % REMEMBERED;
        }
    }

    /// One of them.
    pub(super) fn pick(&self, numbers: &mut StdRng) -> Option<&Exchange> {
        if self.latest.is_empty() {
            return None;
        }
        self.latest.get(numbers.random_range(0..self.latest.len()))
    }
}

/// Whether the routes to both ends of a frame are known.
fn is_between_ordinary(frame: &[u8]) -> bool {
    let Frame::Packet(parsed) = parse(frame) else {
        return false;
    };
    let client = match &parsed.content {
        Content::Error(quote) => quote.destination,
        _ => parsed.source,
    };
    is_ordinary(client) && is_ordinary(parsed.source)
}

/// A frame that was read, if it is a packet.
pub(super) fn packet(frame: &[u8]) -> Option<Box<Parsed>> {
    match parse(frame) {
        Frame::Packet(parsed) => Some(parsed),
        Frame::NotIp | Frame::Cut => None,
    }
}

/// The frame that answers one: MACs, addresses and ports exchanged, so that all sums stay as they are, and untagged.
pub(super) fn turned(frame: &[u8]) -> Option<Vec<u8>> {
    let parsed = packet(frame)?;
    let mut ip = frame[parsed.at..].to_vec();
    let (first, len) = if parsed.is_v6() { (8, 16) } else { (12, 4) };
    let (source, destination) = ip[first..first + 2 * len].split_at_mut(len);
    source.swap_with_slice(destination);
    match parsed.content {
        Content::Ported { .. } => {
            let (source, destination) = ip[parsed.transport..parsed.transport + 4].split_at_mut(2);
            source.swap_with_slice(destination);
        }
        Content::Later => {}
        _ => return None,
    }
    Some([&frame[6..12], &frame[..6], &frame[parsed.at - 2..parsed.at], &ip].concat())
}

/// A datagram that came out as `out`, with a word of its data changed so that its checksum will come to zero there, which
/// has to be sent as all ones (RFC 768).
fn zeroed(frame: &[u8], out: &[u8]) -> Option<Vec<u8>> {
    let [at, out_at] = [frame, out].map(|frame| {
        let parsed = packet(frame)?;
        let is_summed = parsed.protocol == IpProtocol::Udp && parsed.piece.is_none();
        (is_summed && parsed.len >= parsed.transport + 10).then_some(parsed.at + parsed.transport)
    });
    let (at, out_at) = (at?, out_at?);
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (sum, out_sum, data) = (word(frame, at + 6), word(out, out_at + 6), word(frame, at + 8));
    if sum == 0 {
        return None;
    }
    let mut zeroed = frame.to_vec();
    let data = checksum::combine(&[data, out_sum]);
    let sum = match checksum::combine(&[sum, !out_sum]) {
        0 => 0xffff,
        sum => sum,
    };
    zeroed[at + 8..at + 10].copy_from_slice(&data.to_be_bytes());
    zeroed[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
    Some(zeroed)
}

impl Generator<'_> {
    /// What follows on packets that went by: an answer, whole or in fragments, an error about what became of them or about
    /// an answer to them, the next one. All that went before is sent again, so that the case says all.
    pub(super) fn followed(&mut self) -> Vec<Vec<u8>> {
        let Some(exchange) = self.exchanges.pick(&mut self.numbers).cloned() else {
            return vec![self.other()];
        };
        let mut frames = exchange.frames;
        let last = frames[frames.len() - 1].clone();
        let answer = turned(&exchange.out);
        let next = match self.numbers.random_range(0..11) {
            0..=3 => answer.map(|answer| vec![self.grown(answer)]),
            4 => answer.and_then(|answer| self.in_pieces(&answer)),
            5 | 6 => self.error_about(&exchange.out).map(|error| vec![error]),
            7 | 8 => turned(&last)
                .and_then(|answer| self.error_about(&answer))
                .map(|error| vec![error]),
            9 => zeroed(&last, &exchange.out).map(|datagram| vec![datagram]),
            _ => Some(vec![last]),
        };
        frames.extend(next.unwrap_or_default());
        frames
    }

    /// With other fields that its recipient sets, now and then.
    pub(super) fn grown(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let Some(parsed) = packet(&frame) else {
            return frame;
        };
        let ip = &mut frame[parsed.at..];
        let ttl = if self.one_in(6) { self.pick(&TTLS) } else { 64 };
        if parsed.is_v6() {
            ip[7] = ttl;
        } else {
            let mut header = smoltcp::wire::Ipv4Packet::new_unchecked(&mut *ip);
            header.set_hop_limit(ttl);
            header.fill_checksum();
        }
        frame
    }

    /// A whole packet of some length in fragments.
    pub(super) fn in_pieces(&mut self, frame: &[u8]) -> Option<Vec<Vec<u8>>> {
        let parsed = packet(frame)?;
        let payload = frame.get(parsed.at + parsed.transport..parsed.at + parsed.len)?;
        let is_plain = parsed.piece.is_none() && parsed.transport <= 40 && payload.len() >= 24;
        is_plain.then(|| self.pieces(&frame[..parsed.at + parsed.transport], payload))
    }

    /// An ICMP error about a packet: from some router, or from whom it was for.
    pub(super) fn error_about(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let parsed = packet(frame)?;
        let quoted = frame.get(parsed.at..parsed.at + parsed.len)?;
        let reporter = match (self.one_in(2), parsed.is_v6()) {
            (true, _) => parsed.destination,
            (false, false) => Ipv4Addr::new(198, 51, 100, 7).into(),
            (false, true) => Ipv6Addr::new(0x2001, 0xdb8, 0xc, 7, 0, 0, 0, 7).into(),
        };
        Some(self.error_of(reporter, parsed.source, quoted, parsed.transport))
    }
}
