//! Flows of slots that changed their owner of late: docs/consistency.md, "How it works" and "The life of an entry".

use std::{collections::HashMap, net::IpAddr};

use lb_core::desired::BackendId;

use super::{ACK, FIN, RST, SYN};

/// A flow of a service: the index of the service's pool, and what the flow is known by.
pub(super) type Key = (usize, IpAddr, [u16; 2]);

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Embryonic,
    Established,
    Closing,
    Reset,
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
    /// Selects the backend that a packet in such a slot goes to, and writes it down if the packet `leaves_traces`.
    pub(super) fn select(&mut self, key: Key, slot: Owners, flags: u8, leaves_traces: bool) -> BackendId {
        let opens = flags & (SYN | ACK) == SYN;
        let (ends, resets) = (flags & FIN != 0, flags & RST != 0);
        let next = match self.0.get(&key) {
            Some((_, State::Closing | State::Reset)) if opens => (slot.current, State::Embryonic),
            Some((owner, state)) => {
                let state = match state {
                    _ if resets => State::Reset,
                    _ if ends => State::Closing,
                    // Its client acknowledges what the backend still sends.
                    State::Closing => State::Closing,
                    State::Embryonic if opens => State::Embryonic,
                    // Who goes on after a reset was not reset.
                    State::Embryonic | State::Established | State::Reset => State::Established,
                };
                (*owner, state)
            }
            None if opens => (slot.current, State::Embryonic),
            // What is over is not worth an entry; a flow that only its client has ended is not over.
            None if resets => return slot.previous,
            None if ends => (slot.previous, State::Closing),
            None => (slot.previous, State::Embryonic),
        };
        if leaves_traces {
            self.0.insert(key, next);
        }
        next.0
    }
}
