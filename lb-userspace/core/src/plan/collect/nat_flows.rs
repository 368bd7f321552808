//! Flows through `fullnat`: which of them are over, and how much of the source pool they use.
//!
//! A flow has two entries, one for each direction; each is the *opposite* of the other.
//!
//! Invariant: an entry is removed only if its flow is over or has been silent for as long as its service promises to
//! remember, if its backend serves it no more, or if its opposite is missing for good.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use lb_common::{
    abi::{FlowEnds, Forward, NatEntry, TargetEntry},
    net::TCP,
};

use super::flow_time::FlowTime;
use crate::desired::Forwarder;
use crate::plan::{
    layout::{BackendRef, Layout, placed_pool::PlacedPool},
    pools::pool::FlowFate,
};

/// How long a connection is remembered after the last packet of a client that has sent only its first packet, once or
/// repeatedly. RFC 5382 REQ-5 asks for 4 minutes. This is less on purpose: each such connection costs a port, and an
/// attacker would hold all ports with few packets.
const HALF_OPEN_TCP: Duration = Duration::from_secs(60);
/// How long a flow of datagrams is remembered after the client's last packet if the backend has not answered.
const HALF_OPEN_UDP: Duration = Duration::from_secs(30);
/// How long a flow that both ends have closed is remembered after its last packet. For that time its backend may be in
/// TIME-WAIT and refuse another client's SYN from the same port (RFC 9293 §3.6.1; Linux stays there for 60 s).
const CLOSED: Duration = Duration::from_secs(60);
/// How long a flow that was reset is remembered after its last packet. Packets that were on their way have arrived by
/// then.
const RESET: Duration = Duration::from_secs(10);

/// The table of `fullnat` flows, entry by entry.
pub trait TranslationTable {
    /// The entry by that key, as it is now.
    fn get(&self, key: &FlowEnds) -> Option<NatEntry>;
    /// Stores an entry where one is.
    fn replace(&mut self, key: &FlowEnds, entry: &NatEntry);
    /// Removes an entry, if it is there.
    fn remove(&mut self, key: &FlowEnds);
}

/// What a look through the table of `fullnat` flows has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// Flows that are to be removed.
    pub gone: Vec<EndedFlow>,
    /// Flows that are to name another cell.
    pub moved: Vec<Moved>,
    /// Entries whose opposite was not found. They stay for now, since the opposite may have been made or removed while
    /// the table was read.
    pub lonely: HashSet<FlowEnds>,
    /// Flows of each backend that are left.
    pub flows: HashMap<BackendRef, u64>,
    /// How much is in use of each address that backends see.
    pub used: BTreeMap<IpAddr, Usage>,
}

/// A flow that is to be removed, or what is left of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedFlow {
    /// Key of the entry for the way to the backend, or of the only entry.
    pub key: FlowEnds,
    /// The entry by that key, as it was read.
    pub entry: NatEntry,
    /// The opposite entry as it was read.
    pub opposite: Option<NatEntry>,
    /// Why the flow is removed.
    pub cause: Cause,
}

/// Why a flow is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The flow has ended, or was silent for long. A packet that came since the table was read may have changed that.
    Over,
    /// The flow's backend serves it no more, or one of its entries is missing. Packets do not change that.
    Cut,
}

/// A flow whose backend has another cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Key of the entry for the way to the backend.
    pub key: FlowEnds,
    /// The entry by that key, as it was read.
    pub entry: NatEntry,
    /// The backend's present cell, which [`NatEntry::owner`] is to name.
    pub owner: u32,
}

/// How much of one address of the source pool is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Flows from the address.
    pub flows: u64,
    /// Flows from the address to the backend that has the most of them. As many ports of the address are in use there.
    pub busiest: u64,
}

impl EndedFlow {
    /// Whether what was read still stands. Packets come between the look at the table and the removal. The program may
    /// even have removed the flow and made another by the same key.
    fn stands(&self, table: &impl TranslationTable) -> bool {
        let same = |then: &NatEntry, now: &NatEntry| {
            is_same_flow(then, now)
                && (self.cause == Cause::Cut || (then.clock, then.state) == (now.clock, now.state))
        };
        let entry = table.get(&self.key);
        let opposite = table.get(&self.entry.to.reversed());
        entry.is_some_and(|entry| same(&self.entry, &entry))
            && match (self.opposite, opposite) {
                (Some(then), Some(now)) => same(&then, &now),
                (None, None) => true,
                _ => false,
            }
    }
}

/// Whether two entries by one key are the same flow's.
fn is_same_flow(then: &NatEntry, now: &NatEntry) -> bool {
    (then.to, then.service, then.owner) == (now.to, now.service, now.owner)
}

impl Translated {
    /// Moves and removes flows as found, unless they have changed since. The program goes on meanwhile, and there is no
    /// lock: a packet is not noticed that comes in the microseconds between reading an entry and writing or removing it.
    pub fn carry_out(&self, table: &mut impl TranslationTable) {
        for moved in &self.moved {
            // The whole entry is replaced by its present content with another owner. A packet in between leaves no
            // trace: the clock is late by that packet, and if the packet was the flow's last FIN or its RST, the flow
            // stays for the service's idle time. No flow is lost: the old cell leads to the backend until a later sweep
            // lets another backend have it. The opposite entry's owner is not read.
            if let Some(now) = table
                .get(&moved.key)
                .filter(|now| is_same_flow(&moved.entry, now))
            {
                let owner = moved.owner;
                table.replace(&moved.key, &NatEntry { owner, ..now });
            }
        }
        for gone in &self.gone {
            if !gone.stands(table) {
                continue;
            }
            // The entry to the backend goes first: packets that come meanwhile begin a new flow, at another tuple.
            table.remove(&gone.key);
            if gone.opposite.is_some() {
                table.remove(&gone.entry.to.reversed());
            }
        }
    }
}

impl Layout {
    /// Whether some backend is reached by `fullnat`.
    pub fn translates(&self) -> bool {
        let translates = |placed: &PlacedPool| {
            let service = &placed.pool.service;
            service
                .backends
                .iter()
                .any(|b| b.forwarder_in_use(service) == Forwarder::Fullnat)
        };
        self.placed_pools.values().any(|placed| translates(placed))
    }

    /// Looks through the table of `fullnat` flows. `lonely` has the entries that lacked their opposite at the last look.
    /// An entry that still lacks it will not get one, whether or not packets meet the entry.
    pub fn look_through(
        &self,
        entries: &HashMap<FlowEnds, NatEntry>,
        lonely: &HashSet<FlowEnds>,
        time: FlowTime,
    ) -> Translated {
        let mut found = Translated::default();
        if self.is_recovered {
            // A layout that was read back says nothing of flows before the first plan.
            return found;
        }
        let mut pools: HashMap<u32, PoolFlows<'_>> = self
            .placed_pools
            .values()
            .map(|placed| (placed.number, PoolFlows::of(placed)))
            .collect();
        let mut towards: HashMap<(IpAddr, FlowEnds), u64> = HashMap::new();
        for (&key, &entry) in entries {
            let opposite = entries.get(&entry.to.reversed()).copied();
            let gone = |cause| EndedFlow {
                key,
                entry,
                opposite,
                cause,
            };
            let Some(back) = opposite else {
                if lonely.contains(&key) {
                    found.gone.push(gone(Cause::Cut));
                } else {
                    found.lonely.insert(key);
                }
                continue;
            };
            if entry.is_back != 0 {
                continue;
            }
            let pool = pools.get_mut(&entry.service);
            let served = pool.and_then(|pool| pool.cell(&entry).map(|owner| (pool, owner)));
            match served {
                None => found.gone.push(gone(Cause::Cut)),
                Some((pool, _)) if pool.is_over(&entry, &back, time) => found.gone.push(gone(Cause::Over)),
                Some((pool, owner)) => {
                    pool.flows[owner as usize] += 1;
                    *towards.entry((address(&entry), backend(&entry))).or_default() += 1;
                    if owner != entry.owner {
                        found.moved.push(Moved { key, entry, owner });
                    }
                }
            }
        }
        for pool in pools.values() {
            found.flows.extend(pool.flows());
        }
        for ((address, _), flows) in towards {
            let usage = found.used.entry(address).or_default();
            usage.flows += flows;
            usage.busiest = usage.busiest.max(flows);
        }
        found
    }
}

/// The backend's end of a flow: address, and port in wire order; port 0 stands for all.
type End = ([u64; 2], u16);

/// The flows of one pool.
struct PoolFlows<'a> {
    placed: &'a PlacedPool,
    /// By cell: the end of its backend, if the backend is reached by `fullnat`.
    ends: Vec<Option<End>>,
    /// The cell of each end.
    cells: HashMap<End, u32>,
    /// By cell: whether its backend goes on serving its flows.
    served: Vec<bool>,
    /// By cell: flows found.
    flows: Vec<u64>,
    idle: Duration,
}

impl<'a> PoolFlows<'a> {
    fn of(placed: &'a PlacedPool) -> Self {
        let mut ends = vec![None; placed.cells.len()];
        for (local, _, entry) in placed.owned() {
            let target = entry.target;
            let end = (target.addresses[TargetEntry::BACKEND], target.backend_port);
            ends[local as usize] = (target.forward == Forward::FullNat).then_some(end);
        }
        let cells = (0..).zip(&ends).filter_map(|(local, end)| Some(((*end)?, local)));
        Self {
            placed,
            cells: cells.collect(),
            served: placed
                .flows_by_cell()
                .iter()
                .map(|flows| *flows != FlowFate::Cut)
                .collect(),
            flows: vec![0; ends.len()],
            ends,
            idle: placed.pool.service.idle_in_use(),
        }
    }

    /// The cell of the flow's backend, if the backend still serves the flow. The backend's end in the entry counts, not
    /// the cell that the entry names: a backend gets another cell when the way to it changes.
    fn cell(&self, there: &NatEntry) -> Option<u32> {
        let (address, port) = (there.to.destination, (there.to.ports >> 16) as u16);
        let named = self.ends.get(there.owner as usize).copied().flatten();
        let cell = if named == Some((address, port)) || named == Some((address, 0)) {
            there.owner
        } else {
            let of = |port| self.cells.get(&(address, port)).copied();
            of(port).or_else(|| of(0))?
        };
        self.served[cell as usize].then_some(cell)
    }

    /// Whether the flow has ended, or was silent for long.
    fn is_over(&self, there: &NatEntry, back: &NatEntry, time: FlowTime) -> bool {
        let half_open = if there.to.protocol == u32::from(TCP) {
            HALF_OPEN_TCP
        } else {
            HALF_OPEN_UDP
        };
        let was_reset = [there, back].iter().any(|way| way.state == NatEntry::RESET);
        // A backend that repeats a SYN-ACK to a client that is gone must not keep the flow alive.
        let is_opening = there.state == NatEntry::OPENING && !was_reset;
        let silent = there.idle(if is_opening { there } else { back }, time.now);
        let limit = if was_reset {
            RESET
        } else if there.is_closed(back) {
            CLOSED
        } else if is_opening {
            half_open
        } else {
            self.idle.max(half_open)
        };
        silent > time.units(limit)
    }

    /// How many flows each backend has.
    fn flows(&self) -> impl Iterator<Item = (BackendRef, u64)> {
        let owned = self.placed.owned();
        owned
            .filter(|(local, ..)| self.flows[*local as usize] > 0)
            .map(|(local, backend, _)| (self.placed.backend_ref(backend), self.flows[local as usize]))
    }
}

/// The backend of a flow, with its port and protocol. Flows to one backend cannot share a port of one address.
fn backend(entry: &NatEntry) -> FlowEnds {
    FlowEnds {
        source: [0; 2],
        ports: entry.to.ports & 0xffff_0000,
        ..entry.to
    }
}

/// The address that the backend sees.
fn address(entry: &NatEntry) -> IpAddr {
    let [a, b] = entry.to.source;
    // No host has an IPv6 address with these zeros.
    if b == 0 && a >> 32 == 0 {
        Ipv4Addr::from((a as u32).to_ne_bytes()).into()
    } else {
        Ipv6Addr::from(bytemuck::cast::<[u64; 2], [u8; 16]>([a, b])).into()
    }
}
