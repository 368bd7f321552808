//! Fragments: which packet each is of, and which of its bytes have gone by.

use std::{collections::HashMap, net::IpAddr};

use smoltcp::wire::IpProtocol;

use super::{
    parse::{Parsed, Piece},
    translate::Ends,
};

/// What a fragment belongs to (RFC 791 §3.2; RFC 8200 §4.5, which leaves the protocol out).
type Key = (IpAddr, IpAddr, u32, Option<IpProtocol>);

/// A packet of which the first fragment and perhaps others came.
#[derive(Debug)]
struct Whole {
    flow: Ends,
    /// Bytes, in units of 8, that came.
    units: Vec<bool>,
    /// How many there are, once the last one came.
    total: Option<usize>,
}

/// What is known of packets whose fragments are on their way.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<Key, Whole>);

/// What is known of a fragment.
pub(super) enum Known {
    /// The flow that it is of.
    Flow(Ends),
    /// The flow that it is of; but it says something else than a fragment before (RFC 5722).
    Overlap(Ends),
    /// It begins within TCP's flags (RFC 1858).
    Hiding,
    /// Nothing: the first one has not come.
    Nothing,
}

impl Whole {
    fn clashes(&self, piece: Piece) -> bool {
        let units = |from: usize, to: usize| self.units.iter().take(to).skip(from).any(|came| *came);
        let (first, after) = (piece.start / 8, piece.end.div_ceil(8));
        let is_beyond = self.total.is_some_and(|total| piece.end > total);
        let cuts = piece.is_last && units(after, usize::MAX);
        units(first, after) || is_beyond || cuts
    }

    fn is_complete(&self) -> bool {
        self.total
            .is_some_and(|total| self.units.iter().take(total.div_ceil(8)).all(|came| *came))
    }
}

fn key(parsed: &Parsed, piece: Piece) -> Key {
    let protocol = (!parsed.is_v6()).then_some(parsed.protocol);
    (parsed.source, parsed.destination, piece.id, protocol)
}

impl Seen {
    /// Whether a fragment says something else than one before.
    pub(super) fn clashes(&self, parsed: &Parsed, piece: Piece) -> bool {
        let whole = self.0.get(&key(parsed, piece));
        whole.is_some_and(|whole| whole.clashes(piece))
    }

    /// Notes a fragment; with `strict`, only one that says nothing else than those before.
    pub(super) fn add(&mut self, parsed: &Parsed, piece: Piece, flow: &Ends, strict: bool) -> Known {
        let key = key(parsed, piece);
        let known = self.0.get(&key).map(|whole| whole.flow.protocol);
        let is_tcp = known.unwrap_or(parsed.protocol) == IpProtocol::Tcp;
        if is_tcp && (1..16).contains(&piece.start) {
            return Known::Hiding;
        }
        if piece.start > 0 && known.is_none() {
            return Known::Nothing;
        }
        let whole = self.0.entry(key).or_insert_with(|| Whole {
            flow: *flow,
            units: Vec::new(),
            total: None,
        });
        // A first fragment shows its ports itself.
        let flow = if piece.start == 0 { *flow } else { whole.flow };
        if strict && whole.clashes(piece) {
            return Known::Overlap(flow);
        }
        let (first, after) = (piece.start / 8, piece.end.div_ceil(8));
        if whole.units.len() < after {
            whole.units.resize(after, false);
        }
        whole.units[first..after].fill(true);
        if piece.is_last {
            whole.total = Some(piece.end);
        }
        if whole.is_complete() {
            self.0.remove(&key);
        }
        Known::Flow(flow)
    }
}
