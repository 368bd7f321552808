//! Flows of slots that changed their owner of late: docs/consistency.md, "How it works" and "The life of an entry".

use std::{collections::HashMap, net::IpAddr};

use lb_userspace::model::BackendId;

use super::{ACK, FIN, RST, SYN};

/// A flow of a service: the service's place among the pools, and what the flow is known by.
pub(super) type Key = (usize, IpAddr, [u16; 2]);

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Embryonic,
    Established,
    Closing,
}

/// What was written down. The table is larger than what a run sends, so nothing makes room.
#[derive(Debug, Default)]
pub(super) struct Tracked(HashMap<Key, (BackendId, State)>);

/// A packet's slot: whose it is now, and whose it was before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owners {
    pub(super) current: BackendId,
    pub(super) previous: BackendId,
}

impl Tracked {
    /// Whom a packet in such a slot goes to; written down if it `leaves_traces`.
    pub(super) fn place(&mut self, key: Key, slot: Owners, flags: u8, leaves_traces: bool) -> BackendId {
        let opens = flags & (SYN | ACK) == SYN;
        let closes = flags & (FIN | RST) != 0;
        let next = match self.0.get(&key) {
            Some((_, State::Closing)) if opens => (slot.current, State::Embryonic),
            Some((owner, state)) => {
                let state = match state {
                    State::Closing => State::Closing,
                    _ if closes => State::Closing,
                    State::Embryonic if opens => State::Embryonic,
                    State::Embryonic | State::Established => State::Established,
                };
                (*owner, state)
            }
            None if opens => (slot.current, State::Embryonic),
            // What ends is not worth an entry.
            None if closes => return slot.previous,
            None => (slot.previous, State::Embryonic),
        };
        if leaves_traces {
            self.0.insert(key, next);
        }
        next.0
    }
}
