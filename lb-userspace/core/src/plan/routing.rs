//! Which backends QUIC connection IDs name: maps `QUIC` and `SERVERS`.
//!
//! Invariant: a set does not change while a service's options lead to it, nor do its lines. Another one is written beside
//! it, then the options lead there, and the first is used again when every packet that read it is gone.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Instant};

use lb_common::abi::{
    OptionsEntry, QuicSetEntry, SERVERS_PER_LINE, ServerIdEntry as ServerWords, ServerLine, ServerTable,
};

use super::{
    adopt::{Damage, ReadBack},
    capacity::CapacityError,
    extents::Extents,
    placed_pool::PlacedPool,
    pool::PoolMember,
    slots::FlowFate,
    write::Write,
};
use crate::desired::{Quic, ServerId};

/// Maps `QUIC` and `SERVERS` as they are.
#[derive(Clone, Debug)]
pub(super) struct Routing {
    sets: Extents,
    lines: Extents,
    /// By service number.
    present: BTreeMap<u32, Arc<Set>>,
    retired: Vec<(Instant, QuicSetLocation)>,
}

/// Where a set lies.
#[derive(Clone, Debug, PartialEq)]
struct QuicSetLocation {
    index: u32,
    lines: Range<u32>,
}

/// A set that a service's options lead to.
#[derive(Clone, Debug)]
struct Set {
    location: QuicSetLocation,
    meaning: Meaning,
    /// What it was made of; unknown if it was read back.
    wanted: Option<Wanted>,
}

/// What a service asks for: its configurations, and whom each server ID names.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    quic: Quic,
    servers: Vec<(ServerId, u32)>,
}

/// A set and its lines, wherever they lie.
#[derive(Clone, Debug, PartialEq)]
struct Meaning {
    set: QuicSetEntry,
    lines: Vec<ServerLine>,
}

impl Routing {
    /// Empty maps of that many sets and lines.
    pub(super) fn new(sets: u32, lines: u32) -> Self {
        Self {
            sets: Extents::new(sets),
            lines: Extents::new(lines),
            present: BTreeMap::new(),
            retired: Vec::new(),
        }
    }

    /// The index of a service's set, and 1; 0 if it has none.
    pub(super) fn leads(&self, number: u32) -> u32 {
        self.present.get(&number).map_or(0, |set| set.location.index + 1)
    }

    /// Whether something given up waits to be usable again.
    pub(super) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Makes usable again what was given up at a time that is `cold`.
    pub(super) fn release(&mut self, cold: impl Fn(Instant) -> bool) {
        let (free, keep) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, _)| cold(*at));
        self.retired = keep;
        for (_, QuicSetLocation { index, lines }) in free {
            self.sets.give(index..index + 1);
            self.lines.give(lines);
        }
    }

    /// Brings them to what these pools ask for. The writes come before the options that lead there.
    ///
    /// # Errors
    /// When there is no room.
    pub(super) fn change<'p>(
        &mut self,
        pools: impl Iterator<Item = &'p PlacedPool>,
        now: Instant,
    ) -> Result<Vec<Write>, CapacityError> {
        let mut writes = Vec::new();
        let mut before = std::mem::take(&mut self.present);
        let mut wanted = Vec::new();
        for placed in pools {
            let Some(quic) = &placed.pool.service.quic else {
                continue;
            };
            let present = before.remove(&placed.number);
            wanted.push((
                placed,
                Wanted {
                    quic: quic.clone(),
                    servers: servers(placed),
                },
                present,
            ));
        }
        for gone in before.into_values() {
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

    /// Takes in the set that the options of the service of that number lead to; false if it leads to targets outside of
    /// `targets`, where an agent died that was about to move them.
    ///
    /// # Errors
    /// When there can be no such set.
    pub(super) fn read(
        &mut self,
        number: u32,
        options: &OptionsEntry,
        targets: &Range<u32>,
        memory: &impl ReadBack,
    ) -> Result<bool, Damage> {
        let Some(index) = options.quic.checked_sub(1) else {
            return Ok(true);
        };
        if !self.sets.reserve(&(index..index.saturating_add(1))) {
            return Err(Damage::Routing(number));
        }
        let mut set = memory.read_quic(index);
        let ServerTable { first, mask, .. } = set.servers;
        let count = mask.checked_add(1).filter(|count| count.is_power_of_two());
        let end = count.and_then(|count| first.checked_add(count));
        let lines = first..end.ok_or(Damage::Routing(number))?;
        if !self.lines.reserve(&lines) {
            return Err(Damage::Routing(number));
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
        Ok(stays)
    }
}

impl Set {
    /// The lines, then what leads to them.
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

/// Whom each server ID names. Not those who serve nobody: their connections are lost, and may begin anew elsewhere.
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
    // Who leaves has had its ID taken over, perhaps.
    servers.sort_unstable();
    servers.dedup_by(|second, first| second.0 == first.0);
    servers.into_iter().map(|(id, _, target)| (id, target)).collect()
}

impl Meaning {
    fn of(wanted: &Wanted) -> Self {
        let Wanted { quic, servers } = wanted;
        let (table, lines) = table(servers);
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

    fn targets(&self) -> impl Iterator<Item = u32> {
        let named = self
            .lines
            .iter()
            .flat_map(|line| line.ids.iter().zip(line.targets));
        named
            .filter(|(id, _)| **id != ServerWords::NONE)
            .map(|(_, target)| target)
    }
}

/// Seeds that are tried before a table is made larger.
const SEEDS: u64 = 16;

/// A table in which every server ID is found within [`ServerTable::PROBES`] lines; its first line is 0.
fn table(servers: &[(ServerId, u32)]) -> (ServerTable, Vec<ServerLine>) {
    let ids = |(id, target): &(ServerId, u32)| Some((ServerWords::new(id.bytes())?, *target));
    let servers: Vec<_> = servers.iter().filter_map(ids).collect();
    let mut count = (servers.len() / 2).max(1).next_power_of_two();
    loop {
        for seed in 0..SEEDS {
            let table = ServerTable {
                first: 0,
                mask: count as u32 - 1,
                seed,
            };
            if let Some(lines) = filled(&table, &servers) {
                return (table, lines);
            }
        }
        count *= 2;
    }
}

/// The lines of a table, if there is a place for everybody.
fn filled(table: &ServerTable, servers: &[(ServerWords, u32)]) -> Option<Vec<ServerLine>> {
    let mut lines = vec![ServerLine::default(); table.mask as usize + 1];
    for (id, target) in servers {
        let free = (0..ServerTable::PROBES).find_map(|probe| {
            let line = table.line(id, probe) as usize;
            let place = lines[line]
                .ids
                .iter()
                .position(|present| *present == ServerWords::NONE)?;
            Some((line, place))
        });
        let (line, place) = free.filter(|(_, place)| *place < SERVERS_PER_LINE)?;
        lines[line].ids[place] = *id;
        lines[line].targets[place] = *target;
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_found_and_nobody_else() {
        for count in [0, 1, 2, 3, 4, 7, 64, 1000, 16_384] {
            let id = |i: u32| -> ServerId { format!("{i:08x}").parse().expect("a server ID") };
            let servers: Vec<_> = (0..count).map(|i| (id(i), 7 * i)).collect();
            let (table, lines) = table(&servers);
            assert!(
                lines.len() <= (count as usize).next_power_of_two().max(1),
                "{count} in {}",
                lines.len()
            );
            let look_up = |i| {
                let words = ServerWords::new(id(i).bytes()).expect("4 bytes");
                table.look_up(&words, |line| lines.get(line as usize))
            };
            assert!((0..count).all(|i| look_up(i) == Some(7 * i)));
            assert!((count..2 * count + 10).all(|i| look_up(i).is_none()));
        }
    }
}
