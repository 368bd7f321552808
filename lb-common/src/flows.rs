//! The flow table's rules: what becomes of a packet whose slot alone does not say where it goes.
//!
//! Invariant: nobody reads an owner that belongs to another flow. Who changes an entry claims its value by
//! compare-exchange, stores the key, then the value; who reads one reads the key again after the value. (Where loads
//! pass one another, a reader may still take the new owner of an entry that is being taken from its flow at that very
//! moment: a flow that is about to be forgotten anyway.) An entry would have to change hands twice between these reads
//! to deceive a reader, and one that was just written is not given away: see [`GRACE`].

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use crate::{
    abi::{FLOWS_PER_LINE, FlowKey, FlowLine, FlowState, FlowValue, Placement, Slot, TrackingCounters},
    net::tcp,
};

/// A [`FlowLine`] that several CPUs read and write.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct SharedLine {
    keys: [Word; FLOWS_PER_LINE],
    values: [Word; FLOWS_PER_LINE],
}

/// A word that several CPUs read and write, each time as a whole and without any order between words.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    /// Its address, for atomic instructions.
    #[inline(always)]
    pub const fn as_ptr(&self) -> *mut u64 {
        self.0.as_ptr()
    }

    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: LLVM has atomic loads only for BPF of version 4; a volatile load of an aligned word is one
        // instruction, too, and the compiler leaves it where it is. What others do to the word is atomic.
        #[cfg(target_arch = "bpf")]
        return unsafe { self.as_ptr().read_volatile() };
        #[cfg(not(target_arch = "bpf"))]
        self.0.load(Acquire)
    }

    #[inline(always)]
    fn store(&self, value: u64) {
        // SAFETY: as in `load`.
        #[cfg(target_arch = "bpf")]
        unsafe {
            self.as_ptr().write_volatile(value);
        }
        #[cfg(not(target_arch = "bpf"))]
        self.0.store(value, Release);
    }

    /// Puts `new` into it if it holds `old`, as one step: whether it did. Rust has no such operation for BPF, though the
    /// instruction exists.
    #[cfg(target_has_atomic = "64")]
    pub fn exchange(&self, old: u64, new: u64) -> bool {
        self.0.compare_exchange(old, new, AcqRel, Acquire).is_ok()
    }
}

const _: () = assert!(size_of::<SharedLine>() == size_of::<FlowLine>());

/// What the rules ask of the table and its surroundings.
pub trait FlowTable {
    /// Lines of the table, a power of two of at least 2.
    fn lines(&self) -> u32;
    /// A line.
    fn line(&self, index: u32) -> Option<&SharedLine>;
    /// The entry of `PREVIOUS` for the slot of that number.
    fn previous_owner(&self, slot: u32) -> Option<Slot>;
    /// Puts `new` into a word of a line if it holds `old`, as one step: whether it did. (Rust has no such operation for
    /// the BPF target, though the instruction exists.)
    fn exchange(&self, word: &Word, old: u64, new: u64) -> bool;
    /// [`known`], which the kernel build makes a function of its own.
    fn known(&self, query: &Query, value: FlowValue, entry: u32) -> Selected;
    /// [`insert`], likewise.
    fn insert(&self, key: FlowKey, value: FlowValue, clock: u32) -> bool;
    /// [`better`], likewise.
    fn better(&self, best: u32, nth: u32, value: FlowValue, clock: u32) -> u32;
    /// The flow clock.
    fn clock(&self) -> u32;
    /// Notes what became of a packet of that service.
    fn count(&self, service: u32, event: Event);
    /// Takes one from the new flows that the service may write down in this unit of the clock; false when none is left.
    fn spend(&self, service: u32, clock: u32) -> bool;
}

/// What is counted: see [`crate::abi::TrackingCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The flow was in the table.
    Hit,
    /// A new flow was written down.
    Inserted,
    /// An established flow was written down.
    Adopted,
    /// An entry made room for another flow.
    Evicted,
    /// A flow was not written down.
    Refused,
    /// A connection ID named the backend.
    Routed,
    /// A connection ID named none.
    Unroutable,
}

impl TrackingCounters {
    /// Counts an event.
    #[inline(always)]
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Hit => self.hits += 1,
            Event::Inserted => self.inserted += 1,
            Event::Adopted => self.adopted += 1,
            Event::Evicted => self.evicted += 1,
            Event::Refused => self.refused += 1,
            Event::Routed => self.routed += 1,
            Event::Unroutable => self.unroutable += 1,
        }
    }
}

/// A packet in an migrating slot, or of a service that tracks all flows. Few words, so that a BPF function can take it.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The flow.
    pub key: FlowKey,
    /// [`crate::abi::ServiceEntry::id`].
    pub service: u32,
    /// The slot as it was read in the low half, TCP's flags above it, and the `IS_*` bits.
    pub packet: u32,
    /// Index of the slot in `SLOTS`, and of its previous owner in `PREVIOUS`.
    pub slot_index: u32,
}

impl Query {
    /// No owner.
    pub const NOBODY: u32 = 0x7fff;
    /// The service tracks all flows.
    pub const IS_ALWAYS: u32 = 1 << 24;
    /// It is only asked what would become of the packet: nothing may change.
    pub const IS_EXPLAINED: u32 = 1 << 25;

    /// [`Query::packet`] of a packet with those flags in that slot.
    #[inline(always)]
    pub const fn packet(slot: Slot, tcp_flags: u8) -> u32 {
        slot.0 as u32 | (tcp_flags as u32) << 16
    }

    const fn is(&self, bit: u32) -> bool {
        self.packet & bit != 0
    }

    const fn tcp_flags(&self) -> u8 {
        (self.packet >> 16) as u8
    }

    const fn opens(&self) -> bool {
        tcp::opens_flow(self.tcp_flags())
    }

    const fn resets(&self) -> bool {
        tcp::resets(self.tcp_flags())
    }

    const fn has_fin(&self) -> bool {
        tcp::has_fin(self.tcp_flags())
    }

    const fn current(&self) -> u32 {
        self.packet & 0x7fff
    }

    /// The previous owner; the current one where the slot is safe or lent, or where nobody was before. And whether the
    /// slot is lent.
    fn before<T: FlowTable>(&self, table: &T) -> (u32, bool) {
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

/// Where a packet goes: the owner's index within its service's targets, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected(pub u32);

impl Selected {
    const fn new(owner: u32, placement: Placement) -> Self {
        Self(owner & 0x7fff | (placement as u32) << 16)
    }

    /// The owner; [`Query::NOBODY`] for none.
    pub const fn owner(self) -> u32 {
        self.0 & 0x7fff
    }

    /// A [`Placement`]'s number.
    pub const fn placement(self) -> u32 {
        self.0 >> 16
    }
}

/// An entry's time is renewed when it is this old, about a second, so that a busy flow does not keep writing.
pub const RENEW: u32 = 4;
/// An embryonic, closing or reset flow is left in peace for this long after its last packet, about a second: handshakes
/// and most goodbyes are done by then. A newcomer without a place does no harm, it goes where unknown flows go.
pub const GRACE: u32 = 4;
/// An established flow that has been silent for this long, about five minutes, may make room for another.
pub const IDLE: u32 = 1200;

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

/// The agent's side of the table.
#[cfg(target_has_atomic = "64")]
impl SharedLine {
    /// The entries in use, and what `visit` makes of each: `Some` takes its place if it has not changed meanwhile.
    pub fn visit(&self, visit: &mut dyn FnMut(FlowKey, FlowValue) -> Option<FlowValue>) {
        for (word, place) in self.keys.iter().zip(&self.values) {
            let key = word.load();
            let value = FlowValue(place.load());
            if !value.is_used() || word.load() != key {
                continue;
            }
            if let Some(next) = visit(FlowKey(key), value) {
                let _ = place.exchange(value.0, next.0);
            }
        }
    }

    /// Puts an entry into a free place; false if there is none.
    pub fn put(&self, key: FlowKey, value: FlowValue) -> bool {
        for (i, place) in self.values.iter().enumerate() {
            if place.exchange(FlowValue::FREE.0, FlowValue::CLAIMED.0) {
                self.keys[i].store(key.0);
                place.store(value.0);
                return true;
            }
        }
        false
    }

    /// What it holds.
    pub fn read(&self) -> FlowLine {
        let mut line = FlowLine::default();
        for i in 0..FLOWS_PER_LINE {
            line.keys[i] = FlowKey(self.keys[i].load());
            line.values[i] = FlowValue(self.values[i].load());
        }
        line
    }
}

#[cfg(target_has_atomic = "64")]
impl Clone for SharedLine {
    fn clone(&self) -> Self {
        let FlowLine { keys, values } = self.read();
        Self {
            keys: keys.map(|key| Word(AtomicU64::new(key.0))),
            values: values.map(|value| Word(AtomicU64::new(value.0))),
        }
    }
}
