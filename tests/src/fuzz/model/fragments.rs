//! Fragments: which packet each is of, and which of its bytes have gone by.

use std::{collections::HashMap, net::IpAddr};

use smoltcp::wire::IpProtocol;

use super::{
    Flow,
    read::{Piece, Read},
};

/// What a fragment belongs to (RFC 791 §3.2; RFC 8200 §4.5, which leaves the protocol out).
type Key = (IpAddr, IpAddr, u32, Option<IpProtocol>);

/// A packet of which the first fragment and perhaps others came.
#[derive(Debug)]
struct Whole {
    flow: Flow,
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
    Flow(Flow),
    /// It says something else than one before (RFC 5722).
    Overlap,
    /// Nothing: the first one has not come.
    Nothing,
}

impl Seen {
    /// Notes a fragment.
    pub(super) fn add(&mut self, read: &Read, piece: Piece, flow: &Flow, strict: bool) -> Known {
        let protocol = (!read.is_v6()).then_some(read.protocol);
        let key = (read.source, read.destination, piece.id, protocol);
        if piece.start > 0 && !self.0.contains_key(&key) {
            return Known::Nothing;
        }
        let whole = self.0.entry(key).or_insert_with(|| Whole {
            flow: *flow,
            units: Vec::new(),
            total: None,
        });
        let (first, after) = (piece.start / 8, piece.end.div_ceil(8));
        if whole.units.len() < after {
            whole.units.resize(after, false);
        }
        let came = |unit: &bool| *unit;
        let overlaps = whole.units[first..after].iter().any(came);
        let is_beyond = whole.total.is_some_and(|total| piece.end > total);
        let cuts = piece.is_last && whole.units[after..].iter().any(came);
        if strict && (overlaps || is_beyond || cuts) {
            return Known::Overlap;
        }
        whole.units[first..after].fill(true);
        if piece.is_last {
            whole.total = Some(piece.end);
        }
        let flow = whole.flow;
        let is_complete = |total: usize| whole.units[..total.div_ceil(8)].iter().all(came);
        if whole.total.is_some_and(is_complete) {
            self.0.remove(&key);
        }
        Known::Flow(flow)
    }
}
