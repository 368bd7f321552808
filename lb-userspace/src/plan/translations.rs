//! Flows through `fullnat`: which of them are over, and how much of the source pool they use.
//!
//! Invariant: an entry is removed only if its flow is over or has been silent for as long as its service promises to
//! remember, or if its backend serves it no more.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    time::Duration,
};

use lb_common::abi::{Ends, SourcePool, Target, Translation};

use super::{
    layout::{Layout, Whose},
    placed::Placed,
    slots::Flows,
    sweep::{CLOSING, FlowTime},
    target::wide,
};

/// What a look through the table of `fullnat` flows has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// Entries to be removed, each flow's way there before its way back: packets that come meanwhile begin a new flow.
    pub gone: Vec<Ends>,
    /// Flows of each backend that are left.
    pub flows: HashMap<Whose, u64>,
    /// How much is in use of each address that backends see.
    pub used: BTreeMap<IpAddr, Usage>,
}

/// How much of one address of the source pool is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Flows from it.
    pub flows: u64,
    /// Those of them that go to the backend which has the most: as many of its ports are in use there.
    pub busiest: u64,
}

impl Layout {
    /// Whether some backend is reached by `fullnat`.
    pub fn translates(&self) -> bool {
        let translates = |placed: &Placed| {
            let service = &placed.pool.service;
            service
                .backends
                .iter()
                .any(|b| b.forwarder_in_use(service) == crate::model::Forwarder::Fullnat)
        };
        self.placed.values().any(|placed| translates(placed))
    }

    /// Looks through the table of `fullnat` flows.
    pub fn look_through(&self, entries: &HashMap<Ends, Translation>, time: FlowTime) -> Translated {
        let mut found = Translated::default();
        if self.recalled {
            // What was read back is not understood before it was planned.
            return found;
        }
        let by_number: HashMap<u32, Round<'_>> = self
            .placed
            .values()
            .map(|placed| (placed.number, Round::of(placed)))
            .collect();
        let mut towards: HashMap<(IpAddr, Ends), u64> = HashMap::new();
        for (key, entry) in entries {
            let opposite = entry.to.reversed();
            let Some(other) = entries.get(&opposite) else {
                // Its opposite may have been made, or removed, while the table was read.
                if entry.idle(entry, time.now) > time.units(CLOSING) {
                    found.gone.push(*key);
                }
                continue;
            };
            if entry.is_back != 0 {
                continue;
            }
            let round = by_number.get(&entry.service);
            match round.and_then(|round| round.kept(entry, other, time)) {
                Some(whose) => {
                    *found.flows.entry(whose).or_default() += 1;
                    *towards.entry((address(entry), backend(entry))).or_default() += 1;
                }
                None => found.gone.extend([*key, opposite]),
            }
        }
        for ((address, _), flows) in towards {
            let usage = found.used.entry(address).or_default();
            usage.flows += flows;
            usage.busiest = usage.busiest.max(flows);
        }
        found
    }
}

/// A pool, for flows of it.
struct Round<'a> {
    placed: &'a Placed,
    flows: Vec<Flows>,
    idle: Duration,
}

impl<'a> Round<'a> {
    fn of(placed: &'a Placed) -> Self {
        Self {
            placed,
            flows: placed.flows_by_cell(),
            idle: placed.pool.service.idle_in_use(),
        }
    }

    /// Whose flow it is, if it goes on.
    fn kept(&self, there: &Translation, back: &Translation, time: FlowTime) -> Option<Whose> {
        let limit = if there.is_closed(back) { CLOSING } else { self.idle };
        let is_served = self
            .flows
            .get(there.owner as usize)
            .is_some_and(|flows| *flows != Flows::Cut);
        if !is_served || there.idle(back, time.now) > time.units(limit) {
            return None;
        }
        let (_, backend, _) = self.placed.owned().find(|(local, _, entry)| {
            *local == there.owner && entry.target.addresses[Target::BACKEND] == there.to.destination
        })?;
        Some(Whose {
            service: self.placed.pool.key.service.clone(),
            backend,
        })
    }
}

/// What flows have in common that cannot share a port of one address: their backend, with its port and protocol.
fn backend(entry: &Translation) -> Ends {
    Ends {
        source: [0; 2],
        ports: entry.to.ports & 0xffff_0000,
        ..entry.to
    }
}

/// The address that the backend sees.
fn address(entry: &Translation) -> IpAddr {
    let [a, b] = entry.to.source;
    // No address of IPv6 that a host may have ends in so many zeros, or begins so.
    if b == 0 && a >> 32 == 0 {
        Ipv4Addr::from((a as u32).to_ne_bytes()).into()
    } else {
        Ipv6Addr::from(bytemuck::cast::<[u64; 2], [u8; 16]>([a, b])).into()
    }
}

/// What `fullnat` flows from these addresses and ports are given places of: map `NAT_SOURCES`, and the pools of IPv4 and
/// IPv6 in it.
pub fn source_pools(addresses: &[IpAddr], ports: RangeInclusive<u16>) -> (Vec<[u64; 2]>, [SourcePool; 2]) {
    let mut sources = Vec::with_capacity(addresses.len());
    let pools = [false, true].map(|v6| {
        let first = sources.len() as u32;
        let family = addresses.iter().filter(|address| address.is_ipv6() == v6);
        sources.extend(family.map(|address| wide(*address)));
        SourcePool {
            first,
            addresses: sources.len() as u32 - first,
            first_port: u32::from(*ports.start()),
            ports: ports.len() as u32,
        }
    });
    (sources, pools)
}
