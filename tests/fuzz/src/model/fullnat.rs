//! Flows through `fullnat`: where each comes from in its backend's eyes.
//!
//! Which address and port of the pool a flow gets is the program's to choose, so the choice is taken from what it sent.
//! That it lies in the pool, is nobody else's, stays the flow's and leads back is checked.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use lb_core::desired::BackendId;
use smoltcp::wire::IpProtocol;

use super::{ACK, FIN, RST, SYN, translate::Ends};
use lb_world::SourcePool;

/// A flow that has a source address and port of the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct FullnatFlow {
    /// Its service's pool, by its index in the world.
    pub(super) pool: usize,
    pub(super) backend: BackendId,
    /// Both ends, as the backend sees them. While no packet has shown the source's port it is 0.
    inside: Ends,
    life: Life,
}

/// How far the client has closed a flow of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    HalfClosed,
    Reset,
}

/// What is known of such flows.
#[derive(Debug, Default)]
pub(super) struct FullnatFlows {
    /// By their ends as clients show them.
    flows: HashMap<Ends, FullnatFlow>,
    /// The ends as clients show them, by the ends as backends show them.
    back: HashMap<Ends, Ends>,
    /// How many reach each backend and port.
    taken: HashMap<Ends, usize>,
}

/// Why a source cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All of them are others'.
    Full,
    /// The program should have found one, or chose one that is none.
    Wrong(&'static str),
}

/// Where the source port of a flow that shows none is not known yet.
const UNKNOWN: u16 = 0;
/// A pool with no more sources is searched whole before a flow is refused.
pub(super) const SEARCHED: usize = 16;

/// The backend's end alone.
fn backend_of(inside: &Ends) -> Ends {
    let nobody = match inside.destination.ip() {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    Ends {
        source: SocketAddr::new(nobody, UNKNOWN),
        ..*inside
    }
}

impl FullnatFlows {
    /// The flow with those ends, as its client shows them.
    pub(super) fn flow(&self, from: &Ends) -> Option<&FullnatFlow> {
        self.flows.get(from)
    }

    /// Takes note of a packet of its client; true if it is of a flow that is known. After the end of a flow, a SYN opens
    /// another one between the same ends, which has a source of its own.
    pub(super) fn meet(&mut self, from: &Ends, flags: u8) -> bool {
        let Some(known) = self.flows.get_mut(from) else {
            return false;
        };
        let flags = if from.protocol == IpProtocol::Tcp {
            flags
        } else {
            0
        };
        let opens = flags & (SYN | ACK) == SYN;
        if opens && known.life != Life::Open {
            let inside = known.inside;
            self.flows.remove(from);
            self.back.remove(&inside.reversed());
            if let Some(taken) = self.taken.get_mut(&backend_of(&inside)) {
                *taken -= 1;
            }
            return true;
        }
        known.life = match known.life {
            _ if flags & RST != 0 => Life::Reset,
            _ if flags & FIN != 0 => Life::HalfClosed,
            Life::HalfClosed => Life::HalfClosed,
            Life::Open | Life::Reset => Life::Open,
        };
        true
    }

    /// The flow with those ends as its backend shows them, and the ends as its client is to see them.
    pub(super) fn behind(&self, from: &Ends) -> Option<(&FullnatFlow, Ends)> {
        let client = self.back.get(from)?;
        Some((self.flows.get(client)?, client.reversed()))
    }

    /// The ends of a known flow as its backend is to see them, given where a packet of it was seen to come from; no port
    /// was seen if it shows none.
    pub(super) fn recall(&mut self, from: &Ends, seen: SocketAddr) -> Option<Result<Ends, Refusal>> {
        let known = self.flows.get_mut(from)?;
        if known.inside.source.port() != UNKNOWN || seen.port() == UNKNOWN {
            return Some(Ok(known.inside));
        }
        known.inside.source.set_port(seen.port());
        let inside = known.inside;
        Some(match self.back.insert(inside.reversed(), *from) {
            None => Ok(inside),
            Some(_) => Err(Refusal::Wrong("the source is another flow's")),
        })
    }

    /// Gives a new flow the source that a packet of it was seen to come from. `client` and `inside` are its ends as client
    /// and backend see them, but for the source in the latter.
    pub(super) fn add(
        &mut self,
        sources: &SourcePool,
        client: &Ends,
        inside: Ends,
        (pool, backend): (usize, BackendId),
        seen: SocketAddr,
        flags: u8,
    ) -> Result<Ends, Refusal> {
        let taken = self.taken.entry(backend_of(&inside)).or_default();
        // What is seen is the client's own address where the packet was not let through.
        let was_refused = seen.ip() == client.source.ip();
        let places = sources.capacity(inside.destination.is_ipv6());
        if *taken == places || was_refused && *taken >= places / 2 && places > SEARCHED {
            return Err(Refusal::Full);
        }
        if !sources.holds(seen) {
            return Err(Refusal::Wrong("the source is none of the pool"));
        }
        let inside = Ends {
            source: seen,
            ..inside
        };
        if seen.port() != UNKNOWN && self.back.insert(inside.reversed(), *client).is_some() {
            return Err(Refusal::Wrong("the source is another flow's"));
        }
        *taken += 1;
        let known = FullnatFlow {
            pool,
            backend,
            inside,
            life: if client.protocol == IpProtocol::Tcp && flags & RST != 0 {
                Life::Reset
            } else {
                Life::Open
            },
        };
        self.flows.insert(*client, known);
        Ok(inside)
    }
}
