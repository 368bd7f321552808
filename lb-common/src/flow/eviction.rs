//! Room for a flow: a free entry, or else the one that is missed least.

use crate::abi::{FLOWS_PER_LINE, FlowKey, FlowState, FlowValue};

use super::{Event, FlowTable, SharedLine};

/// An embryonic, closing or reset flow is left in peace for this long after its last packet, about a second: handshakes
/// and most goodbyes are done by then. A newcomer without a place does no harm, it goes where unknown flows go.
pub const GRACE: u32 = 4;
/// An established flow that has been silent for this long, about five minutes, may make room for another.
pub const IDLE: u32 = 1200;

/// Writes a flow down in one of its eight places: a free one, or else the one that is missed least. False if none
/// can be had.
#[inline(always)]
pub fn insert<T: FlowTable>(table: &T, key: FlowKey, value: FlowValue, clock: u32) -> bool {
    let first = key.line(table.lines());
    for half in 0..2 {
        let Some(line) = table.line(first ^ half) else {
            continue;
        };
        for i in 0..FLOWS_PER_LINE {
            if line.values[i].load() == FlowValue::FREE.0 && take(table, line, i, FlowValue::FREE, key, value)
            {
                return true;
            }
        }
    }
    evict(table, first, key, value, clock)
}

/// Gives the entry that is missed least to another flow. Where another CPU is after the same one, the flow is not
/// written down: its next packet may be.
#[inline(always)]
fn evict<T: FlowTable>(table: &T, first: u32, key: FlowKey, value: FlowValue, clock: u32) -> bool {
    // A number, not a reference: the verifier would follow each of the eight on its own.
    let mut best = 0;
    for half in 0..2 {
        let Some(line) = table.line(first ^ half) else {
            continue;
        };
        for i in 0..FLOWS_PER_LINE {
            best = table.better(
                best,
                half << 2 | i as u32,
                FlowValue(line.values[i].load()),
                clock,
            );
        }
    }
    let Some(line) = table.line(first ^ (best >> 2 & 1)) else {
        return false;
    };
    let i = best as usize & (FLOWS_PER_LINE - 1);
    let old = FlowValue(line.values[i].load());
    // It may have become somebody's since it was ranked.
    if table.better(0, 0, old, clock) == 0 || !take(table, line, i, old, key, value) {
        return false;
    }
    table.count(value.service(), Event::Evicted);
    true
}

/// Gives an entry to another flow; false if it has changed.
#[inline(always)]
fn take<T: FlowTable>(
    table: &T,
    line: &SharedLine,
    i: usize,
    old: FlowValue,
    key: FlowKey,
    value: FlowValue,
) -> bool {
    if !table.exchange(&line.values[i], old.0, FlowValue::CLAIMED.0) {
        return false;
    }
    line.keys[i].store(key.0);
    line.values[i].store(value.0);
    true
}

/// The greater of `best` and what this makes of the `nth` entry: its rank above the three bits of `nth`.
#[inline(always)]
pub fn better(best: u32, nth: u32, value: FlowValue, clock: u32) -> u32 {
    match rank(value, clock) {
        0 => best,
        rank => best.max(rank << 3 | nth),
    }
}

/// How little an entry is missed; 0 if it is needed. Flows that have hardly begun, or that their client has ended, come
/// first, the longest silent first, then flows that have been silent for very long.
#[inline(always)]
fn rank(value: FlowValue, clock: u32) -> u32 {
    const HALF_OPEN: u32 = 1 << 25;
    let age = value.age(clock);
    match value.state() {
        Some(FlowState::Closing | FlowState::Reset | FlowState::Embryonic) if age >= GRACE => HALF_OPEN + age,
        Some(FlowState::Established) if age >= IDLE => age,
        _ => 0,
    }
}
