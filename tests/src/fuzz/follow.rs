//! What follows on packets that really went by: answers to them, errors about them, and themselves again.

use rand::{Rng, rngs::StdRng};

use super::{
    machine::Did,
    model::read::{Content, Frame, Read, read},
    world::is_ordinary,
};
use lb_common::abi::Reason;

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
    let Frame::Packet(read) = read(frame) else {
        return false;
    };
    let client = match &read.content {
        Content::Error(quote) => quote.destination,
        _ => read.source,
    };
    is_ordinary(client) && is_ordinary(read.source)
}

/// A frame that was read, if it is a packet.
pub(super) fn packet(frame: &[u8]) -> Option<Box<Read>> {
    match read(frame) {
        Frame::Packet(read) => Some(read),
        Frame::NotIp | Frame::Cut => None,
    }
}

/// The frame that answers one: MACs, addresses and ports exchanged, so that all sums stay as they are, and untagged.
pub(super) fn turned(frame: &[u8]) -> Option<Vec<u8>> {
    let read = packet(frame)?;
    let mut ip = frame[read.at..].to_vec();
    let (first, len) = if read.is_v6() { (8, 16) } else { (12, 4) };
    let (source, destination) = ip[first..first + 2 * len].split_at_mut(len);
    source.swap_with_slice(destination);
    match read.content {
        Content::Ported { .. } => {
            let (source, destination) = ip[read.transport..read.transport + 4].split_at_mut(2);
            source.swap_with_slice(destination);
        }
        Content::Later => {}
        _ => return None,
    }
    Some([&frame[6..12], &frame[..6], &frame[read.at - 2..read.at], &ip].concat())
}
