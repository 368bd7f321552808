//! What is known of a packet whose fragments are on their way: the ports that its first fragment showed, and which of
//! its bytes have gone by.

use bytemuck::{Pod, Zeroable};

/// Key of map `FRAGMENTS`: the packet that a fragment is of (RFC 791 §3.2, RFC 8200 §4.5). Addresses are wide (see
/// [`super::TargetEntry::addresses`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// Identification, as on the wire.
    pub id: u32,
    /// IPv4: the protocol. IPv6 tells packets apart without it: 0.
    pub protocol: u32,
}

/// A run of bytes, in units of 8: the first in the low half, the one after the last in the high half; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
struct ByteSpan(u32);

impl ByteSpan {
    #[inline(always)]
    const fn new(start: u32, end: u32) -> Self {
        Self(start & 0xffff | end << 16)
    }

    #[inline(always)]
    const fn start(self) -> u32 {
        self.0 & 0xffff
    }

    #[inline(always)]
    const fn end(self) -> u32 {
        self.0 >> 16
    }
}

/// Runs of bytes that a record can tell apart.
const SPANS: usize = 8;

/// Value of map `FRAGMENTS`.
///
/// What is zero at first comes first: so the words that LLVM clears together on the stack are aligned, as the verifier
/// wants them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct FragmentEntry {
    /// The run that began first and grows with what follows it, then the latest of those that did not.
    spans: [ByteSpan; SPANS],
    /// Bytes that have gone by.
    gone_by: u32,
    /// Bytes of the whole packet, once the last fragment came; 0 before.
    total: u32,
    /// Where the furthest fragment ended.
    furthest: u32,
    /// The flow clock when the first fragment came.
    pub clock: u32,
    /// Source port in the low half, destination port in the high half, wire order.
    pub ports: u32,
    /// The transport protocol.
    pub protocol: u32,
}

impl FragmentEntry {
    /// Units of the flow clock (about a quarter of a second) after which the rest of a packet is not waited for any
    /// more: about the 30 seconds that Linux waits, within the 60 of RFC 8200 §4.5.
    pub const PATIENCE: u32 = 120;

    /// Before any fragment.
    #[inline(always)]
    pub const fn new(ports: u32, protocol: u32, clock: u32) -> Self {
        Self {
            ports,
            protocol,
            clock,
            gone_by: 0,
            total: 0,
            furthest: 0,
            spans: [ByteSpan(0); SPANS],
        }
    }

    /// Whether it is about a packet that may still be on its way.
    #[inline(always)]
    pub const fn is_current(&self, clock: u32) -> bool {
        clock.wrapping_sub(self.clock) < Self::PATIENCE
    }

    /// Adds a fragment, whose bytes are `start..end` of the packet (`start` a multiple of 8); false if it overlaps one
    /// that has gone by, or goes beyond the packet's end.
    ///
    /// Fragments that come in order are one run, whatever their number. Of those out of order the latest are remembered,
    /// older ones taken on trust.
    #[inline(always)]
    #[must_use]
    pub const fn add(&mut self, start: u32, end: u32, is_last: bool) -> bool {
        let (first, after) = (start / 8, end.div_ceil(8));
        let mut overlaps = 0;
        let mut i = 0;
        while i < SPANS {
            let span = self.spans[i];
            // Both differences are negative. Branches would multiply the ways that the verifier walks.
            overlaps |= first.wrapping_sub(span.end()) & span.start().wrapping_sub(after);
            i += 1;
        }
        let most = if self.total == 0 { u32::MAX } else { self.total };
        if overlaps >> 31 != 0 || end > most || is_last && end < self.furthest {
            return false;
        }
        let run = self.spans[0];
        if run.0 == 0 {
            self.spans[0] = ByteSpan::new(first, after);
        } else if run.end() == first {
            self.spans[0] = ByteSpan::new(run.start(), after);
        } else {
            let mut i = SPANS - 1;
            while i > 1 {
                self.spans[i] = self.spans[i - 1];
                i -= 1;
            }
            self.spans[1] = ByteSpan::new(first, after);
        }
        if end > self.furthest {
            self.furthest = end;
        }
        if is_last {
            self.total = end;
        }
        self.gone_by += end - start;
        true
    }

    /// Whether all of the packet has gone by.
    #[inline(always)]
    pub const fn is_complete(&self) -> bool {
        self.total != 0 && self.gone_by >= self.total
    }
}

const _: () = assert!(size_of::<FragmentKey>() == 40 && size_of::<FragmentEntry>() == 56);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use super::*;
    use proptest::prelude::*;

    fn record() -> FragmentEntry {
        FragmentEntry::new(0, 17, 0)
    }

    #[test]
    fn a_packet_is_complete_when_its_last_byte_has_gone_by() {
        for order in [[0, 1, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0]] {
            let mut record = record();
            let fragments = [(0, 16, false), (16, 24, false), (24, 29, true)];
            for (n, i) in order.into_iter().enumerate() {
                assert!(!record.is_complete());
                let (start, end, is_last) = fragments[i];
                assert!(record.add(start, end, is_last), "{i} of {order:?}");
                assert_eq!(record.is_complete(), n == 2);
            }
        }
    }

    #[test]
    fn overlaps_are_found() {
        let mut record = record();
        assert!(record.add(0, 64, false) && record.add(128, 192, false));
        for (start, end) in [
            (0, 64),
            (0, 8),
            (56, 64),
            (56, 72),
            (8, 16),
            (64, 136),
            (184, 200),
            (0, 400),
        ] {
            assert!(!record.add(start, end, false), "{start}..{end}");
        }
        assert!(record.add(64, 128, false) && record.add(192, 200, false));
    }

    #[test]
    fn nothing_lies_beyond_the_end() {
        let mut record = record();
        assert!(record.add(0, 64, false) && record.add(128, 192, false));
        assert!(!record.add(64, 100, true), "the end lies before what has gone by");
        assert!(record.add(192, 195, true));
        assert!(!record.add(200, 208, false), "beyond the end");
        assert!(record.add(64, 128, false) && record.is_complete());
    }

    #[test]
    fn a_record_grows_old_also_when_the_clock_turns_over() {
        let record = FragmentEntry::new(0, 17, u32::MAX - 1);
        assert!(record.is_current(u32::MAX) && record.is_current(FragmentEntry::PATIENCE - 3));
        assert!(!record.is_current(FragmentEntry::PATIENCE - 2));
    }

    proptest! {
        /// Against a list of all bytes, for as many runs of bytes as a record tells apart.
        #[test]
        fn a_record_knows_which_bytes_have_gone_by(
            fragments in proptest::collection::vec((0_u32..64, 1_u32..16), 1..=SPANS),
        ) {
            let (mut record, mut bytes) = (record(), vec![false; 1024]);
            let mut gone_by: Vec<(u32, u32)> = Vec::new();
            for (first, units) in fragments {
                let (start, end) = (first * 8, (first + units) * 8);
                let range = &mut bytes[start as usize..end as usize];
                let is_new = !range.iter().any(|byte| *byte);
                prop_assert_eq!(record.add(start, end, false), is_new);
                if is_new {
                    range.fill(true);
                    gone_by.push((start, end));
                }
            }
            for (start, end) in gone_by {
                prop_assert!(!record.add(start, end, false));
            }
        }
    }
}
