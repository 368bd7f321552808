//! The flow table's rules: what becomes of a packet whose slot alone does not say where it goes.
//!
//! Invariant: nobody reads an owner that belongs to another flow. Who changes an entry claims its value by
//! compare-exchange, stores the key, then the value; who reads one reads the key again after the value. (Where loads
//! pass one another, a reader may still take the new owner of an entry that is being taken from its flow at that very
//! moment: a flow that is about to be forgotten anyway.)

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use crate::{
    abi::{FLOWS_PER_LINE, FlowKey, FlowLine, FlowState, FlowValue, Placement, Slot},
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
    /// [`find`], which the kernel build makes a function of its own.
    fn find(&self, key: FlowKey, service: u32) -> u32;
    /// [`insert`], likewise.
    fn insert(&self, key: FlowKey, value: FlowValue, clock: u32) -> bool;
    /// The flow clock.
    fn clock(&self) -> u32;
    /// Notes what became of a packet of that service.
    fn count(&self, service: u32, event: Event);
    /// Takes one from the new flows that the service may write down in this unit of the clock; false when none is left.
    fn spend(&self, service: u32, clock: u32) -> bool;
}

/// What is counted: see [`crate::abi::Tracking`].
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
}

/// A packet in an unsafe slot, or of a service that tracks all flows. Few words, so that a BPF function can take it.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The flow.
    pub key: FlowKey,
    /// [`crate::abi::Service::id`].
    pub service: u32,
    /// The slot as it was read in the low half, TCP's flags above it, and the `IS_*` bits.
    pub packet: u32,
    /// Where the slot lies in `SLOTS`, and the previous owner in `PREVIOUS`.
    pub place: u32,
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

    const fn opens(&self) -> bool {
        tcp::opens_flow((self.packet >> 16) as u8)
    }

    const fn closes(&self) -> bool {
        tcp::closes_flow((self.packet >> 16) as u8)
    }

    const fn current(&self) -> u32 {
        self.packet & 0x7fff
    }

    /// The previous owner; the current one where the slot is safe, or where nobody was before.
    fn before<T: FlowTable>(&self, table: &T) -> u32 {
        if !Slot(self.packet as u16).is_unsafe() {
            return self.current();
        }
        // Whoever sees the flag sees the previous owner that was written before it: x86 loads in order, and on other
        // machines the agent waits for a grace period between the two.
        let previous = table.previous_owner(self.place).and_then(Slot::owner);
        previous.unwrap_or(self.current())
    }
}

/// Where a packet goes: the owner's index within its service's targets, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed(pub u32);

impl Placed {
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
const RENEW: u32 = 4;
/// An established flow that has been silent for this long, about five minutes, may make room for another.
const IDLE: u64 = 1200;

/// Finds the packet's backend, and writes down what later packets will ask for.
#[inline(always)]
pub fn place<T: FlowTable>(table: &T, query: &Query) -> Placed {
    match entry(table, query) {
        Some(entry) => known(table, query, &entry),
        None => unknown(table, query),
    }
}

/// An entry, as it was read.
struct Entry<'t> {
    place: &'t Word,
    value: FlowValue,
}

#[inline(always)]
fn entry<'t, T: FlowTable>(table: &'t T, query: &Query) -> Option<Entry<'t>> {
    let found = table.find(query.key, query.service);
    if found == NOWHERE {
        return None;
    }
    let first = query.key.line(table.lines());
    let line = table.line(first ^ (found >> 2 & 1))?;
    let i = found as usize & (FLOWS_PER_LINE - 1);
    let place = &line.values[i];
    let value = FlowValue(place.load());
    (value.is_of(query.service) && line.keys[i].load() == query.key.0).then_some(Entry { place, value })
}

/// No place.
const NOWHERE: u32 = u32::MAX;

/// In which of its eight places the flow is: which of the two lines, then the entry in the lowest two bits;
/// `u32::MAX` if it is in none. Who asks for the place reads what it says anew.
#[inline(always)]
pub fn find<T: FlowTable>(table: &T, key: FlowKey, service: u32) -> u32 {
    let first = key.line(table.lines());
    for half in 0..2 {
        let Some(line) = table.line(first ^ half) else {
            return NOWHERE;
        };
        for i in 0..FLOWS_PER_LINE {
            if line.keys[i].load() == key.0 && FlowValue(line.values[i].load()).is_of(service) {
                return half << 2 | i as u32;
            }
        }
    }
    NOWHERE
}

#[inline(always)]
fn known<T: FlowTable>(table: &T, query: &Query, entry: &Entry<'_>) -> Placed {
    let value = entry.value;
    let clock = table.clock();
    let closing = value.state() == Some(FlowState::Closing);
    if closing && query.opens() {
        // The same address and ports again, for another connection.
        let owner = query.current();
        if owner != Query::NOBODY && !query.is(Query::IS_EXPLAINED) {
            replace(
                table,
                entry,
                FlowValue::new(owner, FlowState::Embryonic, query.service, clock),
            );
            table.count(query.service, Event::Inserted);
        }
        return Placed::new(owner, Placement::Opened);
    }
    if query.is(Query::IS_EXPLAINED) {
        return Placed::new(value.owner(), Placement::Known);
    }
    let embryonic = value.state() == Some(FlowState::Embryonic);
    let moves_on = query.closes() && !closing || embryonic && !query.opens();
    if moves_on || value.age(clock) >= RENEW {
        let state = if query.closes() || closing {
            FlowState::Closing
        } else if query.opens() && embryonic {
            FlowState::Embryonic
        } else {
            FlowState::Established
        };
        replace(
            table,
            entry,
            FlowValue::new(value.owner(), state, query.service, clock),
        );
    }
    table.count(query.service, Event::Hit);
    Placed::new(value.owner(), Placement::Known)
}

/// Only if nobody else has changed it: then theirs is as good.
#[inline(always)]
fn replace<T: FlowTable>(table: &T, entry: &Entry<'_>, next: FlowValue) {
    let _ = table.exchange(entry.place, entry.value.0, next.0);
}

#[inline(always)]
fn unknown<T: FlowTable>(table: &T, query: &Query) -> Placed {
    // Without an owner before, nobody has flows here; without one now, new ones have nowhere to go.
    let (current, before) = (query.current(), query.before(table));
    let opens = query.opens();
    let owner = if opens { current } else { before };
    let (written, unwritten) = if opens {
        (Placement::Opened, Placement::Refused)
    } else {
        (Placement::Adopted, Placement::Previous)
    };
    let says_nothing_new = current == before && !query.is(Query::IS_ALWAYS);
    if says_nothing_new || owner == Query::NOBODY || !opens && query.closes() {
        let placement = if owner == current {
            Placement::Current
        } else {
            unwritten
        };
        return Placed::new(owner, placement);
    }
    if query.is(Query::IS_EXPLAINED) {
        return Placed::new(owner, written);
    }
    let clock = table.clock();
    let value = FlowValue::new(owner, FlowState::Embryonic, query.service, clock);
    if (!opens || table.spend(query.service, clock)) && table.insert(query.key, value, clock) {
        let event = if opens { Event::Inserted } else { Event::Adopted };
        table.count(query.service, event);
        return Placed::new(owner, written);
    }
    table.count(query.service, Event::Refused);
    // Later packets will be unknown and go to the previous owner: this one has to go there, too.
    Placed::new(before, unwritten)
}

/// Writes a flow down in the best of its eight places; false if none can be had, or somebody else takes it first.
#[inline(always)]
pub fn insert<T: FlowTable>(table: &T, key: FlowKey, value: FlowValue, clock: u32) -> bool {
    let first = key.line(table.lines());
    // The best rank, and the place that has it in the lowest three bits. A number, not a reference: the verifier would
    // follow each of the eight on its own.
    let mut best = 0;
    for half in 0..2 {
        let Some(line) = table.line(first ^ half) else {
            return false;
        };
        for i in 0..FLOWS_PER_LINE {
            let rank = rank(FlowValue(line.values[i].load()), clock);
            let ranked = rank << 3 | u64::from(half) << 2 | i as u64;
            if rank != 0 && ranked > best {
                best = ranked;
            }
        }
    }
    let Some(line) = table.line(first ^ (best as u32 >> 2 & 1)) else {
        return false;
    };
    let place = &line.values[best as usize & (FLOWS_PER_LINE - 1)];
    let old = FlowValue(place.load());
    // Nothing was found, or it has become somebody's meanwhile.
    if rank(old, clock) == 0 || !table.exchange(place, old.0, FlowValue::CLAIMED.0) {
        return false;
    }
    if old != FlowValue::FREE {
        table.count(value.service(), Event::Evicted);
    }
    line.keys[best as usize & (FLOWS_PER_LINE - 1)].store(key.0);
    place.store(value.0);
    true
}

/// How gladly an entry is taken for another flow; 0 for not at all.
#[inline(always)]
fn rank(value: FlowValue, clock: u32) -> u64 {
    const FREE: u64 = 1 << 26;
    const HALF_OPEN: u64 = 1 << 25;
    let age = u64::from(value.age(clock));
    match value.state() {
        None if value.0 == FlowValue::FREE.0 => FREE + age,
        None => 0,
        Some(FlowState::Closing | FlowState::Embryonic) => HALF_OPEN + age,
        Some(FlowState::Established) if age > IDLE => age,
        Some(FlowState::Established) => 0,
    }
}

/// The agent's side of the table.
#[cfg(target_has_atomic = "64")]
impl SharedLine {
    /// The entries in use, and what `visit` makes of each: `Some` takes its place if it has not changed meanwhile.
    pub fn visit(&self, visit: &mut dyn FnMut(FlowKey, FlowValue) -> Option<FlowValue>) {
        for (key, place) in self.keys.iter().zip(&self.values) {
            let value = FlowValue(place.load());
            if !value.is_used() {
                continue;
            }
            if let Some(next) = visit(FlowKey(key.load()), value) {
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
