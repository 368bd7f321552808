//! What only the detour reads of services: their options, and the lists of clients that some services have.
//!
//! Invariant: a list does not change while a service's options name it. A new list is written under a number of its own,
//! then the options name the new number. The old list is removed when every packet that read it is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::OrdMap;

use lb_common::{
    abi::{self, AclKey, MAX_SOURCES, OptionsEntry},
    net::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER},
};

use super::{fit::CapacityError, placed_pool::PlacedPool};
use crate::desired::{Fragments, MssClamp, TtlExpired};
use crate::plan::tables::{
    sources::{self, SourceEntry},
    write::Write,
};

/// The content of maps `OPTIONS` and `SOURCES`.
#[derive(Clone, Debug, Default)]
pub(in crate::plan) struct OptionsTable {
    /// The options by service number. Options that are all zero are not here.
    lines: OrdMap<u32, OptionsEntry>,
    /// The lists by service number.
    lists: OrdMap<u32, List>,
    /// How many entries all lists have together.
    listed: usize,
    /// Entries that were read back from lists which no service has.
    orphans: Vec<SourceEntry>,
}

/// A list of clients.
#[derive(Clone, Debug)]
struct List {
    number: u32,
    /// The entries without the list's number, in order.
    entries: Arc<[SourceEntry]>,
}

/// The writes that lead to other options.
#[derive(Debug, Default)]
pub(in crate::plan) struct OptionWrites {
    /// Writes that come before keys lead to services that need them.
    pub(in crate::plan) first: Vec<Write>,
    /// Writes that come once the new options are in use.
    pub(in crate::plan) last: Vec<Write>,
}

impl OptionsTable {
    /// The tables that were read back: `lines` by service number, and all `entries` of all lists. `used` tells whether a
    /// number stands for a service.
    pub(in crate::plan) fn read(
        lines: impl Iterator<Item = (u32, OptionsEntry)>,
        entries: Vec<SourceEntry>,
        used: impl Fn(u32) -> bool,
    ) -> Self {
        let lines: OrdMap<u32, OptionsEntry> = lines
            .filter(|(_, line)| *line != OptionsEntry::default())
            .collect();
        let mut by_list: BTreeMap<u32, Vec<SourceEntry>> = BTreeMap::new();
        for entry in entries {
            by_list.entry(entry.key.list()).or_default().push(entry);
        }
        let mut lists = OrdMap::new();
        for (service, line) in lines.iter().filter(|(service, _)| used(**service)) {
            // No agent leaves two services that name one list. If there are two, the second gets a list of its own.
            if let Some(entries) = by_list.remove(&line.source_list) {
                let mut entries: Vec<_> = entries.iter().map(|entry| entry.of_list(0)).collect();
                entries.sort_unstable();
                let (number, entries) = (line.source_list, entries.into());
                lists.insert(*service, List { number, entries });
            }
        }
        Self {
            listed: lists.values().map(|list: &List| list.entries.len()).sum(),
            lines,
            lists,
            orphans: by_list.into_values().flatten().collect(),
        }
    }

    /// Brings the options of a service to `options`.
    pub(in crate::plan) fn set(&mut self, number: u32, options: OptionsEntry) -> Write {
        self.lines.insert(number, options);
        let number = number as u16;
        Write::Options { number, options }
    }

    /// Brings the options to what these pools ask for, without those of the numbers that are `gone`. `quic` says what leads
    /// to the QUIC configurations of the service of a number.
    ///
    /// # Errors
    /// When the lists do not fit.
    pub(in crate::plan) fn change<'p>(
        &mut self,
        pools: impl Iterator<Item = &'p PlacedPool>,
        gone: &[u32],
        quic: impl Fn(u32) -> u32,
    ) -> Result<OptionWrites, CapacityError> {
        let mut writes = OptionWrites::default();
        // Nothing has led to the orphans since they were read.
        writes.first.extend(removal(std::mem::take(&mut self.orphans)));
        // Numbers are used again once the lists that had them are gone.
        let mut taken = LazyNumbers::of(&self.lists);
        for placed in pools {
            let entries = sources::entries(placed.pool.service.source.as_ref());
            let present = self.lists.remove(&placed.number);
            self.listed -= present.as_ref().map_or(0, |list| list.entries.len());
            let list = match present {
                Some(list) if list.entries == entries => Some(list),
                present => {
                    writes.last.extend(present.map(List::removed));
                    (!entries.is_empty()).then(|| {
                        let list = List {
                            number: taken.free(),
                            entries,
                        };
                        writes.first.push(Write::Sources(list.entries()));
                        list
                    })
                }
            };
            let line = OptionsEntry {
                quic: quic(placed.number),
                ..line(placed, list.as_ref().map_or(0, |list| list.number))
            };
            if self.lines.get(&placed.number).copied().unwrap_or_default() != line {
                let write = self.set(placed.number, line);
                writes.first.push(write);
            }
            if let Some(list) = list {
                self.listed += list.entries.len();
                self.lists.insert(placed.number, list);
            }
        }
        for number in gone {
            if let Some(list) = self.lists.remove(number) {
                self.listed -= list.entries.len();
                writes.last.push(list.removed());
            }
        }
        if !writes.last.is_empty() {
            writes.last.insert(0, Write::Wait);
        }
        if self.listed > MAX_SOURCES as usize {
            return Err(CapacityError::Sources(self.listed));
        }
        Ok(writes)
    }
}

impl List {
    /// The entries under the list's number.
    fn entries(&self) -> Vec<SourceEntry> {
        self.entries
            .iter()
            .map(|entry| entry.of_list(self.number))
            .collect()
    }

    /// The write that removes the list.
    fn removed(self) -> Write {
        Write::SourcesGone(self.entries())
    }
}

fn removal(entries: Vec<SourceEntry>) -> Option<Write> {
    (!entries.is_empty()).then_some(Write::SourcesGone(entries))
}

/// The numbers of lists, looked at only when one is needed.
struct LazyNumbers {
    lists: OrdMap<u32, List>,
    taken: Option<BTreeSet<u32>>,
}

impl LazyNumbers {
    fn of(lists: &OrdMap<u32, List>) -> Self {
        Self {
            lists: lists.clone(),
            taken: None,
        }
    }

    /// Takes a number that no list has.
    fn free(&mut self) -> u32 {
        let numbers = || self.lists.values().map(|list| list.number).collect();
        let taken = self.taken.get_or_insert_with(numbers);
        let next = taken.last().map_or(1, |last| last + 1);
        let number = if next <= AclKey::LAST_LIST {
            next
        } else {
            (1..next).find(|number| !taken.contains(number)).unwrap_or(next)
        };
        taken.insert(number);
        number
    }
}

/// The options of a pool whose list of clients has that number.
fn line(placed: &PlacedPool, source_list: u32) -> OptionsEntry {
    let service = &placed.pool.service;
    OptionsEntry {
        source_list,
        mss4: mss(placed, IPV4_TCP),
        mss6: mss(placed, IPV6_TCP),
        fragments: match service.fragments {
            Fragments::Follow => abi::FragmentMode::Follow,
            Fragments::Hash3 => abi::FragmentMode::Hash3,
            Fragments::Drop => abi::FragmentMode::Drop,
        },
        ttl_expired: match service.ttl_expired {
            TtlExpired::Answer => abi::TtlExpiredMode::Answer,
            TtlExpired::Drop => abi::TtlExpiredMode::Drop,
        },
        ..OptionsEntry::default()
    }
}

/// Bytes of the headers of IPv4 and TCP, without options (RFC 6691).
const IPV4_TCP: u16 = (IPV4_HEADER + TCP_HEADER) as u16;
/// Bytes of the headers of IPv6 and TCP, without options.
const IPV6_TCP: u16 = (IPV6_HEADER + TCP_HEADER) as u16;

/// The largest segment that a SYN may ask for; 0 for no limit. `headers` is the length of what a packet has in front of a
/// segment. The operator sets the limit, or it is what the narrowest way to a backend carries.
fn mss(placed: &PlacedPool, headers: u16) -> u16 {
    match placed.pool.service.mss_clamp {
        MssClamp::Off => 0,
        MssClamp::To(bytes) => bytes,
        MssClamp::Auto => {
            let known = placed.owned().filter(|(_, _, entry)| entry.target.max_len > 0);
            let narrowest = known.map(|(_, _, entry)| entry.target.max_len).min();
            narrowest.map_or(0, |bytes| bytes.saturating_sub(headers).max(MssClamp::MIN))
        }
    }
}
