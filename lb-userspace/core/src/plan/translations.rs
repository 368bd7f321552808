//! Flows through `fullnat`: which of them are over, and how much of the source pool they use.
//!
//! Invariant: an entry is removed only if its flow is over or has been silent for as long as is promised, if its backend
//! serves it no more, or if its opposite is missing for good.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use lb_common::{
    abi::{FlowEnds, Forward, NatEntry, TargetEntry},
    net::TCP,
};

use super::{
    layout::{BackendRef, Layout},
    placed_pool::PlacedPool,
    slots::FlowFate,
    sweep::FlowTime,
};

/// How long a connection is remembered after the last packet of a client that has sent its first one only, perhaps
/// again and again. RFC 5382 REQ-5 asks for 4 minutes; this is less on purpose, since each of them costs a port, and
/// who never meant to open them would hold all ports with few packets.
const HALF_OPEN_TCP: Duration = Duration::from_secs(60);
/// The same for datagrams.
const HALF_OPEN_UDP: Duration = Duration::from_secs(30);
/// How long a flow that both ends have closed is remembered after its last packet. So long its backend may refuse
/// another client's SYN from that port: it is in TIME-WAIT (RFC 9293 §3.6.1; Linux stays there for 60 s).
const CLOSED: Duration = Duration::from_secs(60);
/// How long a flow that was reset is remembered after its last packet: what was on its way has arrived by then.
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
    /// What is to be removed.
    pub gone: Vec<EndedFlow>,
    /// What is to name another cell.
    pub moved: Vec<Moved>,
    /// Entries whose opposite was not found, and that stay for now: it may have been made, or removed, while the table
    /// was read.
    pub lonely: HashSet<FlowEnds>,
    /// Flows of each backend that are left.
    pub flows: HashMap<BackendRef, u64>,
    /// How much is in use of each address that backends see.
    pub used: BTreeMap<IpAddr, Usage>,
}

/// A flow that is to be removed, or what is left of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedFlow {
    /// Key of the entry for the way there, or of the only one.
    pub key: FlowEnds,
    /// That entry as it was read.
    pub entry: NatEntry,
    /// The opposite entry as it was read.
    pub opposite: Option<NatEntry>,
    /// Why.
    pub cause: Cause,
}

/// Why a flow is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It has ended, or was silent for long. A packet that came since it was read may have changed that.
    Over,
    /// Its backend serves it no more, or one of its entries is missing. Packets do not change that.
    Cut,
}

/// A flow whose backend has another cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Key of the entry for the way there.
    pub key: FlowEnds,
    /// That entry as it was read.
    pub entry: NatEntry,
    /// The cell: what is to become of [`NatEntry::owner`].
    pub owner: u32,
}

/// How much of one address of the source pool is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Flows from it.
    pub flows: u64,
    /// Those of them that go to the backend which has the most: as many of its ports are in use there.
    pub busiest: u64,
}

impl EndedFlow {
    /// Whether what was read still stands. Packets come between the look at the table and the removal: the program may
    /// even have forgotten the flow and made another by the same key.
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
    /// Moves and removes what is to be, as far as that is still so. The program goes on meanwhile, and there is no lock:
    /// a packet that comes in the microseconds between reading an entry and writing or removing it is not noticed.
    pub fn carry_out(&self, table: &mut impl TranslationTable) {
        for moved in &self.moved {
            // The whole entry is replaced, by what it is now but for the owner. A packet in between leaves no trace:
            // the clock is late by that packet, and if that was the flow's last FIN or its RST, the flow stays for the
            // service's idle time. None is lost: the old cell leads to the backend until it is given to another, and
            // that takes a later sweep. The opposite entry's owner is not read.
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
            // The way there first: packets that come meanwhile begin a new flow, at another place.
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
                .any(|b| b.forwarder_in_use(service) == crate::desired::Forwarder::Fullnat)
        };
        self.placed.values().any(|placed| translates(placed))
    }

    /// Looks through the table of `fullnat` flows. `lonely` is what the last look said of itself: what has had no
    /// opposite for so long will not get one, whether or not packets meet it.
    pub fn look_through(
        &self,
        entries: &HashMap<FlowEnds, NatEntry>,
        lonely: &HashSet<FlowEnds>,
        time: FlowTime,
    ) -> Translated {
        let mut found = Translated::default();
        if self.recalled {
            // What was read back is not understood before it was planned.
            return found;
        }
        let mut rounds: HashMap<u32, Round<'_>> = self
            .placed
            .values()
            .map(|placed| (placed.number, Round::of(placed)))
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
            let round = rounds.get_mut(&entry.service);
            let served = round.and_then(|round| round.cell(&entry).map(|owner| (round, owner)));
            match served {
                None => found.gone.push(gone(Cause::Cut)),
                Some((round, _)) if round.is_over(&entry, &back, time) => found.gone.push(gone(Cause::Over)),
                Some((round, owner)) => {
                    round.flows[owner as usize] += 1;
                    *towards.entry((address(&entry), backend(&entry))).or_default() += 1;
                    if owner != entry.owner {
                        found.moved.push(Moved { key, entry, owner });
                    }
                }
            }
        }
        for round in rounds.values() {
            found.flows.extend(round.flows());
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

/// A pool, for flows of it.
struct Round<'a> {
    placed: &'a PlacedPool,
    /// By cell: the end that the backend there has, if it is reached by `fullnat`.
    ends: Vec<Option<End>>,
    /// The other way round.
    cells: HashMap<End, u32>,
    /// By cell: whether its backend goes on serving its flows.
    served: Vec<bool>,
    /// By cell: flows found.
    flows: Vec<u64>,
    idle: Duration,
}

impl<'a> Round<'a> {
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

    /// The cell of the flow's backend, if that still serves it. What the entry says of its packets counts, not the cell
    /// that it names: a backend gets another cell when the way to it changes.
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
        // Whoever repeats a SYN-ACK to a client that is not there must not keep the flow alive.
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
            .map(|(local, backend, _)| {
                let service = self.placed.pool.key.service.clone();
                (BackendRef { service, backend }, self.flows[local as usize])
            })
    }
}

/// What flows have in common that cannot share a port of one address: their backend, with its port and protocol.
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
    // No address of IPv6 that a host may have ends in so many zeros, or begins so.
    if b == 0 && a >> 32 == 0 {
        Ipv4Addr::from((a as u32).to_ne_bytes()).into()
    } else {
        Ipv6Addr::from(bytemuck::cast::<[u64; 2], [u8; 16]>([a, b])).into()
    }
}
