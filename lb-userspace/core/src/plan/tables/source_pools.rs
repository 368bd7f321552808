//! The source pools, from which new `fullnat` flows get their address and port, and the way from one content to another.
//!
//! Invariant: a packet reads a pool, then one of its addresses. It meets the old addresses or the new ones, never a
//! mixture: rows that a pool leads to do not change, and the two words that say which rows and which ports are stored
//! whole.

use std::{net::IpAddr, ops::RangeInclusive};

use bytemuck::Zeroable;
use lb_common::abi::{MAX_NAT_SOURCES, SnatPoolEntry};

use super::target::wide;

/// An address, as map `NAT_SOURCES` holds it.
type Row = [u64; 2];

/// The content of maps `NAT_SOURCES` and `SOURCE_POOLS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTables {
    /// Addresses.
    pub sources: Vec<Row>,
    /// The pools of IPv4 and IPv6 among the addresses.
    pub pools: [SnatPoolEntry; 2],
}

/// A step toward other pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceWrite {
    /// Store an address that no pool leads to.
    Source(u32, [u64; 2]),
    /// Store the pool of IPv4 (0) or IPv6 (1).
    Pool(u32, SnatPoolEntry),
    /// Wait until every packet that is on its way now has left.
    Wait,
}

impl Default for SourceTables {
    fn default() -> Self {
        Self {
            sources: vec![[0; 2]; MAX_NAT_SOURCES as usize],
            pools: [SnatPoolEntry::zeroed(); 2],
        }
    }
}

impl SourceTables {
    /// Tables with these addresses and ports.
    pub fn of(addresses: &[IpAddr], ports: RangeInclusive<u16>) -> Self {
        let mut tables = Self::default();
        for write in tables.writes_to(addresses, ports) {
            tables.take(write);
        }
        tables
    }

    /// The writes that lead to these addresses and ports, in order. There are none if the tables have them already.
    pub fn writes_to(&self, addresses: &[IpAddr], ports: RangeInclusive<u16>) -> Vec<SourceWrite> {
        let wanted = [false, true].map(|v6| -> Vec<Row> {
            let family = addresses.iter().filter(|address| address.is_ipv6() == v6);
            family.map(|address| wide(*address)).collect()
        });
        let mut way = Way {
            tables: self.clone(),
            busy: self.pools.map(run).to_vec(),
            writes: Vec::new(),
        };
        for (v6, rows) in wanted.iter().enumerate() {
            if way.lead(v6, rows, &ports).is_none() {
                way.make_room(v6);
                if way.lead(v6, rows, &ports).is_none() {
                    // There are no rows beside those in use. For a moment new flows get no address.
                    way.empty();
                    for (v6, rows) in wanted.iter().enumerate() {
                        let _ = way.lead(v6, rows, &ports);
                    }
                    break;
                }
            }
        }
        way.writes
    }

    /// Carries out a write.
    pub fn take(&mut self, write: SourceWrite) {
        match write {
            SourceWrite::Source(index, row) => self.sources[index as usize] = row,
            SourceWrite::Pool(v6, pool) => self.pools[v6 as usize] = pool,
            SourceWrite::Wait => {}
        }
    }

    /// The addresses of a pool.
    fn rows(&self, pool: &SnatPoolEntry) -> &[Row] {
        let (first, addresses) = run(*pool);
        let end = first.saturating_add(addresses).min(self.sources.len());
        self.sources.get(first..end).unwrap_or_default()
    }
}

/// The rows that a pool leads to: the first, and how many.
fn run(pool: SnatPoolEntry) -> (usize, usize) {
    (pool.first as usize, pool.addresses as usize)
}

/// The way from one state of the tables to another.
struct Way {
    tables: SourceTables,
    /// Runs of rows that packets may read.
    busy: Vec<(usize, usize)>,
    writes: Vec<SourceWrite>,
}

impl Way {
    /// Adds a write, and carries it out here.
    fn write(&mut self, write: SourceWrite) {
        self.tables.take(write);
        self.writes.push(write);
    }

    /// Makes the pool of a family consist of these addresses and ports; `None` if there are no rows for them.
    fn lead(&mut self, v6: usize, wanted: &[Row], ports: &RangeInclusive<u16>) -> Option<()> {
        let present = self.tables.pools[v6];
        let sorted = |rows: &[Row]| {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            rows
        };
        // The order of the addresses does not matter, so that clients keep theirs.
        let first = if sorted(self.tables.rows(&present)) == sorted(wanted) {
            present.first as usize
        } else {
            let first = self.free(wanted.len())?;
            for (index, row) in (first as u32..).zip(wanted) {
                self.write(SourceWrite::Source(index, *row));
            }
            self.busy.push((first, wanted.len()));
            first
        };
        let pool = SnatPoolEntry {
            first: first as u32,
            addresses: wanted.len() as u32,
            first_port: u32::from(*ports.start()),
            ports: ports.len() as u32,
        };
        if pool != present {
            self.write(SourceWrite::Pool(v6 as u32, pool));
        }
        Some(())
    }

    /// The first run of so many rows that no packet reads.
    fn free(&self, rows: usize) -> Option<usize> {
        let overlaps = |first: usize| {
            let meets = |(begin, len): &&(usize, usize)| first < begin + len && *begin < first + rows;
            self.busy.iter().find(meets)
        };
        let mut first = 0;
        while first + rows <= self.tables.sources.len() {
            match overlaps(first) {
                None => return Some(first),
                Some((begin, len)) => first = begin + len,
            }
        }
        None
    }

    /// Leaves a family one of its addresses for a moment, so that its other rows can be written.
    fn make_room(&mut self, v6: usize) {
        let pool = self.tables.pools[v6];
        let addresses = pool.addresses.min(1);
        self.write(SourceWrite::Pool(v6 as u32, SnatPoolEntry { addresses, ..pool }));
        self.write(SourceWrite::Wait);
        self.busy = self.tables.pools.map(run).to_vec();
    }

    /// Leaves both families without addresses.
    fn empty(&mut self) {
        for v6 in 0..2 {
            self.write(SourceWrite::Pool(v6, SnatPoolEntry::zeroed()));
        }
        self.write(SourceWrite::Wait);
        self.busy.clear();
    }
}

/// The source pools of these addresses and ports: map `NAT_SOURCES`, and the pools of IPv4 and IPv6 in it.
pub fn source_pools(addresses: &[IpAddr], ports: RangeInclusive<u16>) -> (Vec<[u64; 2]>, [SnatPoolEntry; 2]) {
    let SourceTables { sources, pools } = SourceTables::of(addresses, ports);
    (sources, pools)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    const PORTS: RangeInclusive<u16> = 1024..=32_767;

    fn addresses(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<IpAddr>> {
        let v4 = (0..40_u8).prop_map(|host| IpAddr::from([10, 0, 0, host]));
        let v6 = (0..40_u16).prop_map(|host| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host]));
        vec(prop_oneof![v4, v6], count).prop_map(|mut list| {
            let mut seen = HashSet::new();
            list.retain(|address| seen.insert(*address));
            list
        })
    }

    fn of_family(list: &[IpAddr], v6: usize) -> HashSet<Row> {
        let family = list.iter().filter(|address| usize::from(address.is_ipv6()) == v6);
        family.map(|address| wide(*address)).collect()
    }

    proptest! {
        /// At any time a packet finds all old addresses, or all new ones.
        #[test]
        fn a_family_that_has_addresses_has_them_all_the_time(
            lists in vec(addresses(1..60), 2..6), port in 2000_u16..3000,
        ) {
            let mut tables = SourceTables::of(&lists[0], PORTS);
            for pair in lists.windows(2) {
                for write in tables.writes_to(&pair[1], port..=port + 9) {
                    let read_by_packets = tables.pools.map(run);
                    if let SourceWrite::Source(index, _) = write {
                        let index = index as usize;
                        prop_assert!(!read_by_packets.iter().any(|(first, n)| (*first..first + n).contains(&index)));
                    }
                    tables.take(write);
                    for v6 in 0..2 {
                        let now: HashSet<Row> = tables.rows(&tables.pools[v6]).iter().copied().collect();
                        prop_assert!(now == of_family(&pair[0], v6) || now == of_family(&pair[1], v6));
                    }
                }
                for v6 in 0..2 {
                    let now: HashSet<Row> = tables.rows(&tables.pools[v6]).iter().copied().collect();
                    prop_assert_eq!(now, of_family(&pair[1], v6));
                    prop_assert_eq!(tables.pools[v6].first_port, u32::from(port));
                }
                let again = tables.writes_to(&pair[1], port..=port + 9);
                prop_assert!(again.is_empty(), "{:?}", again);
            }
        }
    }

    #[test]
    fn what_is_in_force_is_not_written_again_in_whatever_order_it_is_named() {
        let list: Vec<IpAddr> = (1..=5_u8).map(|host| IpAddr::from([10, 0, 0, host])).collect();
        let tables = SourceTables::of(&list, PORTS);
        let turned: Vec<IpAddr> = list.iter().copied().rev().collect();
        assert_eq!(tables.writes_to(&turned, PORTS), []);
        // Other ports are one store for each family.
        assert_eq!(tables.writes_to(&list, 5000..=6000).len(), 2);
    }

    #[test]
    fn full_tables_change_with_one_address_or_none_for_a_moment() {
        let list = |from: u8, count: u16| -> Vec<IpAddr> {
            (0..count)
                .map(|host| IpAddr::from([10, from, 0, host as u8]))
                .collect()
        };
        for (count, least) in [(128, 128), (200, 1), (256, 0)] {
            let mut tables = SourceTables::of(&list(0, count), PORTS);
            let mut fewest = u32::MAX;
            for write in tables.writes_to(&list(1, count), PORTS) {
                tables.take(write);
                fewest = fewest.min(tables.pools[0].addresses);
            }
            assert_eq!(fewest, least, "with {count} addresses");
            let now: HashSet<Row> = tables.rows(&tables.pools[0]).iter().copied().collect();
            assert_eq!(now, of_family(&list(1, count), 0));
        }
    }
}
