//! Ranges of ports as keys: which range a port belongs to where ranges overlap, and which blocks make up the ports of a
//! range.
//!
//! Invariant: no port is in two of the blocks made for one address and protocol.

use std::{collections::BTreeSet, ops::RangeInclusive};

use lb_common::abi::PortBlock;

/// Ports, and which of the ranges has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan) struct Interval {
    pub(in crate::plan) ports: RangeInclusive<u16>,
    /// Index of the range.
    pub(in crate::plan) range: usize,
}

/// The ports of all ranges, in order, each with the range that it belongs to: the narrowest of the ranges that hold it. Of
/// ranges of one width, the first counts.
pub(in crate::plan) fn flatten(ranges: &[RangeInclusive<u16>]) -> Vec<Interval> {
    let mut edges: Vec<(u32, bool, usize)> = Vec::with_capacity(2 * ranges.len());
    for (i, range) in ranges.iter().enumerate() {
        edges.push((u32::from(*range.start()), true, i));
        edges.push((u32::from(*range.end()) + 1, false, i));
    }
    edges.sort_unstable();
    // The ranges that hold the ports before the next edge, narrowest first.
    let mut holders = BTreeSet::new();
    let mut intervals: Vec<Interval> = Vec::new();
    let mut from = 0;
    for (edge, begins, i) in edges {
        if edge > from
            && let Some((_, range)) = holders.first()
        {
            // Not empty, and within 16 bits: an edge behind the last port ends what began at a port.
            append(&mut intervals, from as u16..=(edge - 1) as u16, *range);
        }
        from = edge;
        let holder = (ranges[i].end() - ranges[i].start(), i);
        if begins {
            holders.insert(holder);
        } else {
            holders.remove(&holder);
        }
    }
    intervals
}

/// Adds ports behind the others, and joins them with the ports before if both belong to one range.
fn append(intervals: &mut Vec<Interval>, ports: RangeInclusive<u16>, range: usize) {
    if let Some(last) = intervals.last_mut()
        && last.range == range
        && u32::from(*last.ports.end()) + 1 == u32::from(*ports.start())
    {
        last.ports = *last.ports.start()..=*ports.end();
        return;
    }
    intervals.push(Interval { ports, range });
}

/// What a run of ports is made up of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Piece {
    /// One port.
    One(u16),
    /// Several.
    Block(PortBlock),
}

/// The fewest pieces that make up `ports`: at most two of each size.
pub(in crate::plan) fn pieces(ports: &RangeInclusive<u16>) -> Vec<Piece> {
    let (mut next, end) = (u32::from(*ports.start()), u32::from(*ports.end()) + 1);
    let mut pieces = Vec::new();
    while next < end {
        // As large as its first port allows, and as what is left allows.
        let bits = next
            .trailing_zeros()
            .min((end - next).ilog2())
            .min(PortBlock::MAX_BITS);
        pieces.push(match bits {
            0 => Piece::One(next as u16),
            bits => Piece::Block(PortBlock::around(next as u16, bits)),
        });
        next += 1 << bits;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The range that a port belongs to, by the words of the documentation.
    fn owner(ranges: &[RangeInclusive<u16>], port: u16) -> Option<usize> {
        let width = |i: &usize| ranges[*i].end() - ranges[*i].start();
        (0..ranges.len())
            .filter(|i| ranges[*i].contains(&port))
            .min_by_key(width)
    }

    fn range() -> impl Strategy<Value = RangeInclusive<u16>> {
        let near = (1000..1100_u16, 0..80_u16).prop_map(|(first, more)| first..=first + more);
        let wide = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| a.min(b)..=a.max(b));
        prop_oneof![4 => near, 1 => wide, 1 => Just(1..=u16::MAX), 1 => Just(0..=u16::MAX)]
    }

    proptest! {
        #[test]
        fn every_port_has_the_narrowest_range_that_holds_it(ranges in vec(range(), 0..12)) {
            let mut flat = vec![None; 1 << 16];
            for Interval { ports, range } in flatten(&ranges) {
                for piece in pieces(&ports) {
                    let ports = match piece {
                        Piece::One(port) => port..=port,
                        Piece::Block(block) => block.first()..=block.last(),
                    };
                    for port in ports {
                        prop_assert_eq!(flat[usize::from(port)].replace(range), None, "port {} twice", port);
                    }
                }
            }
            for port in 0..=u16::MAX {
                prop_assert_eq!(flat[usize::from(port)], owner(&ranges, port), "port {}", port);
            }
        }

        #[test]
        fn a_run_of_ports_takes_two_pieces_of_each_size_at_most(ports in range()) {
            let pieces = pieces(&ports);
            for bits in 0..=PortBlock::MAX_BITS {
                let size = |piece: &&Piece| match piece {
                    Piece::One(_) => bits == 0,
                    Piece::Block(block) => block.bits() == bits,
                };
                prop_assert!(pieces.iter().filter(size).count() <= 2);
            }
        }
    }

    #[test]
    fn neighbours_of_one_range_are_joined_and_holes_are_left_out() {
        let interval = |ports, range| Interval { ports, range };
        let flat = flatten(&[100..=199, 120..=129, 300..=300]);
        let expected = [
            interval(100..=119, 0),
            interval(120..=129, 1),
            interval(130..=199, 0),
            interval(300..=300, 2),
        ];
        assert_eq!(flat, expected);
        assert!(flatten(&[]).is_empty());
    }
}
