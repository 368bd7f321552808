//! Where a packet's flow goes, and what is written down of it.

use crate::{
    abi::{FLOWS_PER_LINE, FlowState, FlowValue, Placement, Slot},
    net::tcp,
};

use super::{Event, FlowTable, Query, Selected};

/// An entry's time is renewed when it is this old, about a second, so that a busy flow does not keep writing.
pub const RENEW: u32 = 4;

/// Finds the packet's backend, and writes down what later packets will ask for.
#[inline(always)]
pub fn look_up<T: FlowTable>(table: &T, query: &Query) -> Selected {
    let Some((value, entry)) = find(table, query) else {
        return unknown(table, query);
    };
    let goes_on = value.state() == Some(FlowState::Established) && !tcp::concerns_flow(query.tcp_flags());
    if !goes_on || value.age(table.clock()) >= RENEW {
        return table.known(query, value, entry);
    }
    hit(table, query, value)
}

/// What the flow's entry says, and in which of its eight places that is: which of the two lines, then the entry in the
/// lowest two bits. A number, not a reference: the verifier would follow each of the eight on its own.
#[inline(always)]
fn find<T: FlowTable>(table: &T, query: &Query) -> Option<(FlowValue, u32)> {
    let first = query.key.line(table.lines());
    for half in 0..2 {
        let line = table.line(first ^ half)?;
        for i in 0..FLOWS_PER_LINE {
            if line.keys[i].load() != query.key.0 {
                continue;
            }
            let value = FlowValue(line.values[i].load());
            if value.is_of(query.service) && line.keys[i].load() == query.key.0 {
                return Some((value, half << 2 | i as u32));
            }
        }
    }
    None
}

/// A packet of a flow with an entry that says `value`, and something to change there.
#[inline(always)]
pub fn known<T: FlowTable>(table: &T, query: &Query, value: FlowValue, entry: u32) -> Selected {
    let clock = table.clock();
    let has_ended = matches!(value.state(), Some(FlowState::Closing | FlowState::Reset));
    if has_ended && query.opens() {
        // The same address and ports again, for another connection.
        let owner = query.current();
        if owner != Query::NOBODY && !query.is(Query::IS_EXPLAINED) {
            let next = FlowValue::new(owner, FlowState::Embryonic, query.service, clock);
            replace(table, query, entry, value, next);
            table.count(query.service, Event::Inserted);
        }
        return Selected::new(owner, Placement::Opened);
    }
    let state = next_state(value.state(), query);
    let is_news = value.state() != Some(state) || value.age(clock) >= RENEW;
    if is_news && !query.is(Query::IS_EXPLAINED) {
        let next = FlowValue::new(value.owner(), state, query.service, clock);
        replace(table, query, entry, value, next);
    }
    hit(table, query, value)
}

/// How far a flow has come with another packet. Anybody may have sent a RST: who goes on talking was not reset. A FIN
/// is the client's last word but for acknowledgments, which its backend's answer may need for long.
#[inline(always)]
const fn next_state(state: Option<FlowState>, query: &Query) -> FlowState {
    if query.resets() {
        return FlowState::Reset;
    }
    match state {
        _ if query.has_fin() => FlowState::Closing,
        Some(FlowState::Closing) => FlowState::Closing,
        Some(FlowState::Embryonic) if query.opens() => FlowState::Embryonic,
        _ => FlowState::Established,
    }
}

#[inline(always)]
fn hit<T: FlowTable>(table: &T, query: &Query, value: FlowValue) -> Selected {
    if !query.is(Query::IS_EXPLAINED) {
        table.count(query.service, Event::Hit);
    }
    Selected::new(value.owner(), Placement::Known)
}

/// Only if nobody else has changed it: then theirs is as good.
#[inline(always)]
fn replace<T: FlowTable>(table: &T, query: &Query, entry: u32, value: FlowValue, next: FlowValue) {
    let first = query.key.line(table.lines());
    if let Some(line) = table.line(first ^ (entry >> 2 & 1)) {
        let _ = table.exchange(
            &line.values[entry as usize & (FLOWS_PER_LINE - 1)],
            value.0,
            next.0,
        );
    }
}

#[inline(always)]
fn unknown<T: FlowTable>(table: &T, query: &Query) -> Selected {
    // Without an owner before, nobody has flows here; without one now, new ones have nowhere to go.
    let current = query.current();
    let (before, is_lent) = query.before(table);
    let opens = query.opens();
    let owner = if opens { current } else { before };
    let (written, unwritten) = if opens {
        (Placement::Opened, Placement::Refused)
    } else {
        (Placement::Adopted, Placement::Previous)
    };
    // Who opens a flow with the borrower of a slot stays there when the slot goes home.
    let says_nothing_new = current == before && !query.is(Query::IS_ALWAYS) && !(is_lent && opens);
    if says_nothing_new || owner == Query::NOBODY || !opens && query.resets() {
        let placement = if owner == current {
            Placement::Current
        } else {
            unwritten
        };
        return Selected::new(owner, placement);
    }
    if query.is(Query::IS_EXPLAINED) {
        return Selected::new(owner, written);
    }
    let clock = table.clock();
    let state = if query.has_fin() && !opens {
        FlowState::Closing
    } else {
        FlowState::Embryonic
    };
    let value = FlowValue::new(owner, state, query.service, clock);
    if (!opens || table.spend(query.service, clock)) && table.insert(query.key, value, clock) {
        let event = if opens { Event::Inserted } else { Event::Adopted };
        table.count(query.service, event);
        return Selected::new(owner, written);
    }
    table.count(query.service, Event::Refused);
    // Later packets will be unknown and go to the previous owner: this one has to go there, too.
    Selected::new(before, unwritten)
}

impl Query {
    /// The previous owner; the current one where the slot is stable or lent, or where nobody was before. And whether the
    /// slot is lent.
    pub(super) fn before<T: FlowTable>(&self, table: &T) -> (u32, bool) {
        let current = self.current();
        if !Slot(self.packet as u16).is_migrating() {
            return (current, false);
        }
        // Whoever sees the flag sees the previous owner that was written before it: x86 loads in order, and on other
        // machines the agent waits for a grace period between the two.
        match table.previous_owner(self.slot_index) {
            Some(home) if home.is_lent() => (current, true),
            previous => (previous.and_then(Slot::owner).unwrap_or(current), false),
        }
    }
}
