//! Where the QUIC configurations of services lie: maps `QUIC` and `SERVERS`.
//!
//! A service that routes by connection IDs has one *set*: its configurations, and lines that say which backend each
//! server ID names.
//!
//! Invariant: a set and its lines do not change while a service's options lead to the set. A new set is written beside
//! the old one, then the options lead to the new one. The old one's room is used again when every packet that read it
//! is gone.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Instant};

use imbl::OrdMap;

use lb_common::abi::{OptionsEntry, QuicSetEntry, ServerIdEntry, ServerLine, ServerTable};

use super::{extents::Extents, fit::CapacityError, placed_pool::PlacedPool};
use crate::desired::{Quic, ServerId};
use crate::plan::{
    pools::pool::{FlowFate, PoolMember},
    tables::{read_back::ReadBack, server_ids, write::Write},
};

/// Maps `QUIC` and `SERVERS`: what lies there, and what is free.
#[derive(Clone, Debug)]
pub(in crate::plan) struct QuicSets {
    sets: Extents,
    lines: Extents,
    /// The sets in use, by service number.
    present: OrdMap<u32, Arc<Set>>,
    retired: Vec<(Instant, QuicSetLocation)>,
}

/// Where a set lies.
#[derive(Clone, Debug, PartialEq)]
struct QuicSetLocation {
    index: u32,
    lines: Range<u32>,
}

/// A set that the options of a service lead to.
#[derive(Clone, Debug)]
struct Set {
    location: QuicSetLocation,
    meaning: Meaning,
    /// What the set was made of; unknown if it was read back.
    wanted: Option<Wanted>,
}

/// What a service asks for: its configurations, and the target that each server ID names.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    quic: Quic,
    servers: Vec<(ServerId, u32)>,
}

/// The content of a set and its lines, wherever they lie.
#[derive(Clone, Debug, PartialEq)]
struct Meaning {
    set: QuicSetEntry,
    lines: Vec<ServerLine>,
}

impl QuicSets {
    /// Empty maps of that many sets and lines.
    pub(in crate::plan) fn new(sets: u32, lines: u32) -> Self {
        Self {
            sets: Extents::new(sets),
            lines: Extents::new(lines),
            present: OrdMap::new(),
            retired: Vec::new(),
        }
    }

    /// What leads to a service's set: the set's index plus 1, or 0 if the service has none.
    pub(super) fn option(&self, number: u32) -> u32 {
        self.present.get(&number).map_or(0, |set| set.location.index + 1)
    }

    /// Whether something given up waits to be usable again.
    pub(in crate::plan) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Makes room usable again that was given up at a time that is `cold`.
    pub(in crate::plan) fn release(&mut self, cold: impl Fn(Instant) -> bool) {
        let (free, keep) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, _)| cold(*at));
        self.retired = keep;
        for (_, QuicSetLocation { index, lines }) in free {
            self.sets.give(index..index + 1);
            self.lines.give(lines);
        }
    }

    /// Brings the sets to what these pools ask for, without those of the numbers that are `gone`. The writes come before the
    /// options that lead to the sets.
    ///
    /// # Errors
    /// When there is no room.
    pub(in crate::plan) fn change<'p>(
        &mut self,
        pools: impl Iterator<Item = &'p PlacedPool>,
        gone: &[u32],
        now: Instant,
    ) -> Result<Vec<Write>, CapacityError> {
        let mut writes = Vec::new();
        let mut wanted = Vec::new();
        let mut over: Vec<u32> = gone.to_vec();
        for placed in pools {
            let Some(quic) = &placed.pool.service.quic else {
                over.push(placed.number);
                continue;
            };
            let present = self.present.remove(&placed.number);
            wanted.push((
                placed,
                Wanted {
                    quic: quic.clone(),
                    servers: servers(placed),
                },
                present,
            ));
        }
        over.sort_unstable();
        for gone in over.iter().filter_map(|number| self.present.remove(number)) {
            self.retired.push((now, gone.location.clone()));
        }
        for (placed, wanted, present) in wanted {
            let set = match present {
                Some(set) if set.wanted.as_ref() == Some(&wanted) => set,
                present => {
                    let meaning = Meaning::of(&wanted);
                    match present {
                        Some(set) if set.meaning == meaning => Arc::new(Set {
                            wanted: Some(wanted),
                            ..(*set).clone()
                        }),
                        present => {
                            self.retired
                                .extend(present.map(|set| (now, set.location.clone())));
                            let set = self.place(meaning, wanted, placed)?;
                            writes.extend(set.writes());
                            Arc::new(set)
                        }
                    }
                }
            };
            self.present.insert(placed.number, set);
        }
        Ok(writes)
    }

    /// Finds room for a set.
    fn place(&mut self, meaning: Meaning, wanted: Wanted, placed: &PlacedPool) -> Result<Set, CapacityError> {
        let name = || placed.pool.key.service.clone();
        let limit = self.sets.capacity();
        let index = self
            .sets
            .take(1)
            .ok_or_else(|| CapacityError::QuicSets(limit, name()))?
            .start;
        let lines = self
            .lines
            .take(meaning.lines.len() as u32)
            .ok_or_else(|| CapacityError::Servers(wanted.servers.len(), name()))?;
        Ok(Set {
            location: QuicSetLocation { index, lines },
            meaning,
            wanted: Some(wanted),
        })
    }

    /// Takes in the set that the options of a service lead to. Yields whether the set names `targets` only: an agent that
    /// died while it moved a service's targets leaves a set that names others. `None` if there can be no such set.
    pub(in crate::plan) fn read(
        &mut self,
        number: u32,
        options: &OptionsEntry,
        targets: &Range<u32>,
        memory: &impl ReadBack,
    ) -> Option<bool> {
        let Some(index) = options.quic.checked_sub(1) else {
            return Some(true);
        };
        if !self.sets.reserve(&(index..index.saturating_add(1))) {
            return None;
        }
        let mut set = memory.read_quic(index);
        let ServerTable { first, mask, .. } = set.servers;
        let count = mask.checked_add(1).filter(|count| count.is_power_of_two());
        let end = count.and_then(|count| first.checked_add(count));
        let lines = first..end?;
        if !self.lines.reserve(&lines) {
            return None;
        }
        set.servers.first = 0;
        let meaning = Meaning {
            set,
            lines: lines.clone().map(|line| memory.read_servers(line)).collect(),
        };
        let stays = meaning.targets().all(|target| targets.contains(&target));
        let location = QuicSetLocation { index, lines };
        self.present.insert(
            number,
            Arc::new(Set {
                location,
                meaning,
                wanted: None,
            }),
        );
        Some(stays)
    }
}

impl Set {
    /// The writes of the lines, then of the set that leads to them.
    fn writes(&self) -> [Write; 2] {
        let Self {
            location, meaning, ..
        } = self;
        let mut set = meaning.set;
        set.servers.first = location.lines.start;
        [
            Write::Servers {
                line: location.lines.start,
                lines: meaning.lines.clone(),
            },
            Write::Quic {
                index: location.index,
                set: Box::new(set),
            },
        ]
    }
}

/// The target that each server ID names. Backends whose flows are cut have no ID here: their connections are lost, and
/// may begin anew elsewhere.
fn servers(placed: &PlacedPool) -> Vec<(ServerId, u32)> {
    let at = placed.cell_of();
    let ids: BTreeMap<_, _> = placed
        .pool
        .service
        .backends
        .iter()
        .map(|backend| (backend.id(), (backend.server_id.as_ref(), backend.leaves())))
        .collect();
    let server = |member: &PoolMember| {
        let (id, leaves) = ids.get(&member.id)?;
        let target = placed.targets.start + at.get(&member.id)?;
        (member.flows != FlowFate::Cut).then_some((id.cloned()?, *leaves, target))
    };
    let mut servers: Vec<_> = placed.pool.members.iter().filter_map(server).collect();
    // Another backend may have taken over the ID of one that leaves.
    servers.sort_unstable();
    servers.dedup_by(|second, first| second.0 == first.0);
    servers.into_iter().map(|(id, _, target)| (id, target)).collect()
}

impl Meaning {
    fn of(wanted: &Wanted) -> Self {
        let Wanted { quic, servers } = wanted;
        let (table, lines) = server_ids::table(servers);
        let mut set = QuicSetEntry {
            servers: table,
            ..QuicSetEntry::default()
        };
        for config in &quic.configs {
            set.configs[usize::from(config.id)] = lb_common::quic::config(
                config.server_id_length,
                config.nonce_length,
                config.key.as_ref().map(crate::desired::QuicKey::bytes),
            );
        }
        Self { set, lines }
    }

    /// The targets that server IDs name.
    fn targets(&self) -> impl Iterator<Item = u32> {
        let named = self
            .lines
            .iter()
            .flat_map(|line| line.ids.iter().zip(line.targets));
        named
            .filter(|(id, _)| **id != ServerIdEntry::NONE)
            .map(|(_, target)| target)
    }
}
