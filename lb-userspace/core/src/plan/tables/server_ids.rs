//! Server IDs of QUIC connections in lines, as map `SERVERS` has them.

use lb_common::abi::{SERVERS_PER_LINE, ServerIdEntry, ServerLine, ServerTable};

use crate::desired::ServerId;

/// Seeds that are tried before a table is made larger.
const SEEDS: u64 = 16;

/// A table in which every server ID is found within [`ServerTable::PROBES`] lines. The table's first line is 0.
pub(in crate::plan) fn table(servers: &[(ServerId, u32)]) -> (ServerTable, Vec<ServerLine>) {
    let ids = |(id, target): &(ServerId, u32)| Some((ServerIdEntry::new(id.bytes())?, *target));
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

/// The lines of a table, if there is room for every server ID.
fn filled(table: &ServerTable, servers: &[(ServerIdEntry, u32)]) -> Option<Vec<ServerLine>> {
    let mut lines = vec![ServerLine::default(); table.mask as usize + 1];
    for (id, target) in servers {
        let free = (0..ServerTable::PROBES).find_map(|probe| {
            let line = table.line(id, probe) as usize;
            let place = lines[line]
                .ids
                .iter()
                .position(|present| *present == ServerIdEntry::NONE)?;
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
    fn every_server_is_found_and_no_other() {
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
                let words = ServerIdEntry::new(id(i).bytes()).expect("4 bytes");
                table.look_up(&words, |line| lines.get(line as usize))
            };
            assert!((0..count).all(|i| look_up(i) == Some(7 * i)));
            assert!((count..2 * count + 10).all(|i| look_up(i).is_none()));
        }
    }
}
