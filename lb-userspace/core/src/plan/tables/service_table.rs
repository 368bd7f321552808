//! Building one half of a service table: keys into lines, by a multiplier that keeps chains rare and short.

use lb_common::abi::{MAX_CHAIN, ServiceEntry, ServiceKey, ServiceLine, TableIndex};

/// The keys do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The keys need more chained lines than the table has.
    #[error(
        "the service table is full: {keys} keys in {lines} lines (a range of ports takes up to 30); raise `max_services` \
         and restart"
    )]
    Full {
        /// Keys to place.
        keys: usize,
        /// Lines that keys hash to.
        lines: u32,
    },
    /// No multiplier keeps chains short enough.
    #[error(
        "no multiplier keeps {keys} keys in {lines} lines within chains of {MAX_CHAIN} (a range of ports takes up to 30); \
         raise `max_services` and restart"
    )]
    Chains {
        /// Keys to place.
        keys: usize,
        /// Lines that keys hash to.
        lines: u32,
    },
}

/// One half of a service table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyTable<L> {
    /// How look-ups find the half.
    pub index: TableIndex,
    /// The lines of the half.
    pub lines: Vec<L>,
}

/// How many multipliers are tried before the best of them is taken. The first that needs no chain ends the search.
const TRIES: u64 = 64;

/// Lays out `entries`, whose keys are distinct, in the half that `index` names, with a multiplier of its own.
///
/// # Errors
/// When no layout fits.
pub(in crate::plan) fn build<K, const N: usize, const SPARE: usize>(
    entries: &[(K, ServiceEntry)],
    index: TableIndex,
) -> Result<FamilyTable<ServiceLine<K, N, SPARE>>, TableError>
where
    K: ServiceKey + Default + PartialEq,
{
    let index = choose(entries, index, N)?;
    let bits = index.bits;
    let empty = ServiceLine {
        keys: [K::default(); N],
        services: [ServiceEntry::default(); N],
        next: 0,
        spare: [0; SPARE],
    };
    let base = index.base();
    let mut lines = vec![empty; 2 << bits];
    let mut used = vec![0_usize; 2 << bits];
    let mut overflow = 1_u32 << bits;
    for (key, service) in entries {
        let mut line = index.line(key) - base;
        while used[line as usize] == N {
            if lines[line as usize].next == 0 {
                if overflow == 2 << bits {
                    return Err(TableError::Full {
                        keys: entries.len(),
                        lines: 1 << bits,
                    });
                }
                lines[line as usize].next = base + overflow;
                overflow += 1;
            }
            line = lines[line as usize].next - base;
        }
        let index = &mut used[line as usize];
        lines[line as usize].keys[*index] = *key;
        lines[line as usize].services[*index] = *service;
        *index += 1;
    }
    Ok(FamilyTable { index, lines })
}

/// The first multiplier that needs no chain, or else the one with the fewest chained keys.
fn choose<K: ServiceKey>(
    entries: &[(K, ServiceEntry)],
    index: TableIndex,
    per_line: usize,
) -> Result<TableIndex, TableError> {
    let (base, bits) = (index.base(), index.bits);
    let mut best: Option<(usize, TableIndex)> = None;
    let mut fill = vec![0_usize; 1 << bits];
    for attempt in 1..=TRIES {
        let multiplier = lb_common::hash::mix(attempt, 0x6d75_6c74_6970_6c79) | 1;
        let index = TableIndex { multiplier, ..index };
        fill.fill(0);
        for (key, _) in entries {
            fill[(index.line(key) - base) as usize] += 1;
        }
        let longest = fill.iter().copied().max().unwrap_or(0).div_ceil(per_line);
        let chained = fill.iter().map(|n| n.saturating_sub(per_line)).sum();
        if longest <= MAX_CHAIN as usize && best.is_none_or(|(least, _)| chained < least) {
            best = Some((chained, index));
        }
        if chained == 0 {
            break;
        }
    }
    best.map(|(_, index)| index).ok_or(TableError::Chains {
        keys: entries.len(),
        lines: 1 << bits,
    })
}
