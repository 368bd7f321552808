//! The flow table: where flows go that the slot table alone cannot place.
//!
//! A line is one cache line of four entries; an entry is a key and a value, one word each. Invariant: a value that is
//! not free belongs to the key beside it, whoever reads them in whatever order: who changes an entry claims its
//! value first (see [`FlowValue::CLAIMED`]), and who reads one reads the key again after the value.

use bytemuck::{Pod, Zeroable};

/// Entries of one 64-byte line.
pub const FLOWS_PER_LINE: usize = 4;

/// What of a flow is compared, in one word.
///
/// The highest 16 bits are those that choose the slot, so that the slot of an entry can be told from its key. Of an
/// IPv4 flow the key is all of source address and ports, mixed without loss; of an IPv6 flow it is a hash of 64 bits,
/// and two flows of one service share it with a probability of 2⁻⁶⁴.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct FlowKey(pub u64);

impl FlowKey {
    /// `slot_hash` chose the slot; `flow_hash` mixes source address and ports. They differ where a service keeps
    /// clients together: then many flows have one slot.
    #[inline(always)]
    pub const fn new(slot_hash: u64, flow_hash: u64) -> Self {
        const SLOT: u64 = 0xffff << 48;
        Self(slot_hash & SLOT | flow_hash & !SLOT)
    }

    /// The flow's slot in a table with that mask (slots less one).
    #[inline(always)]
    pub const fn slot(self, mask: u16) -> u32 {
        (self.0 >> 48) as u32 & mask as u32
    }

    /// The line to look in first; the other one is its neighbour, `line ^ 1`. `lines` is a power of two.
    #[inline(always)]
    pub const fn line(self, lines: u32) -> u32 {
        (self.0 >> 16) as u32 & (lines - 1)
    }
}

/// How far a flow has come. The lowest two bits are what says so in tables of agents that did not know of
/// [`FlowState::Reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowState {
    /// One packet was seen: perhaps nobody is there. Evicted first.
    Embryonic = 1,
    /// It has sent more since.
    Established = 2,
    /// A FIN was seen: the client has said all that it will. What its backend has left to say nobody knows.
    Closing = 3,
    /// A RST was seen, and nothing after it.
    Reset = 7,
}

/// Who owns a flow, and since when it has been silent, in one word:
///
/// | bits | what |
/// |---|---|
/// | 0–14 | owner: index within the service's targets |
/// | 15–16 | the lowest two bits of [`FlowState`]; 0 means that the entry is free |
/// | 17–32 | [`super::ServiceEntry::number`] |
/// | 33–40 | [`super::ServiceEntry::vip`] |
/// | 41–62 | when it was last seen, in units of the flow clock |
/// | 63 | the third bit of [`FlowState`]; of an entry that is not closing it says nothing |
///
/// Bit 63 was the clock's highest once, so that it may be anything in an entry that an earlier program wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct FlowValue(pub u64);

impl FlowValue {
    /// An entry that may be taken.
    pub const FREE: Self = Self(0);
    /// An entry that is being changed. Nobody else touches it meanwhile, and nobody believes its key.
    pub const CLAIMED: Self = Self(1);
    /// Bits of the flow clock that are kept; ages are differences within them.
    pub const CLOCK_MASK: u32 = (1 << 22) - 1;
    /// The bits of [`FlowValue::identity`].
    pub const IDENTITY: u64 = ((1 << 24) - 1) << 17;

    /// An entry seen at `clock`; `service` as in [`super::ServiceEntry::id`].
    #[inline(always)]
    pub const fn new(owner: u32, state: FlowState, service: u32, clock: u32) -> Self {
        Self(
            (owner & 0x7fff) as u64
                | (state as u64 & 3) << 15
                | (state as u64 >> 2) << 63
                | Self::identity(service)
                | ((clock & Self::CLOCK_MASK) as u64) << 41,
        )
    }

    /// The bits that say which service and VIP the entry belongs to; `service` as in [`super::ServiceEntry::id`].
    #[inline(always)]
    pub const fn identity(service: u32) -> u64 {
        ((service & 0x00ff_ffff) as u64) << 17
    }

    /// Whether it belongs to that service and VIP, and is neither free nor claimed.
    #[inline(always)]
    pub const fn is_of(self, service: u32) -> bool {
        self.0 & Self::IDENTITY == Self::identity(service) && self.is_used()
    }

    /// Whether it is neither free nor claimed.
    #[inline(always)]
    pub const fn is_used(self) -> bool {
        self.0 & (3 << 15) != 0
    }

    /// The owner's index within its service's targets.
    #[inline(always)]
    pub const fn owner(self) -> u32 {
        self.0 as u32 & 0x7fff
    }

    /// A copy of the entry with another owner.
    #[inline(always)]
    #[must_use]
    pub const fn with_owner(self, owner: u32) -> Self {
        Self(self.0 & !0x7fff | (owner & 0x7fff) as u64)
    }

    /// How far the flow has come; `None` of an entry that is free or claimed.
    #[inline(always)]
    pub const fn state(self) -> Option<FlowState> {
        match (self.0 >> 15) & 3 {
            1 => Some(FlowState::Embryonic),
            2 => Some(FlowState::Established),
            3 if self.0 >> 63 != 0 => Some(FlowState::Reset),
            3 => Some(FlowState::Closing),
            _ => None,
        }
    }

    /// [`super::ServiceEntry::number`] of its service.
    #[inline(always)]
    pub const fn service(self) -> u32 {
        (self.0 >> 17) as u32 & 0xffff
    }

    /// [`super::ServiceEntry::vip`] of the VIP that it came to.
    #[inline(always)]
    pub const fn vip(self) -> u32 {
        (self.0 >> 33) as u32 & 0xff
    }

    /// [`super::ServiceEntry::id`] of its service and VIP.
    #[inline(always)]
    pub const fn service_id(self) -> u32 {
        (self.0 >> 17) as u32 & 0x00ff_ffff
    }

    /// When it was last seen.
    #[inline(always)]
    pub const fn clock(self) -> u32 {
        (self.0 >> 41) as u32 & Self::CLOCK_MASK
    }

    /// Units of the flow clock since it was last seen. It may have been seen after `clock` was read: then it is new, not
    /// as old as can be.
    #[inline(always)]
    pub const fn age(self, clock: u32) -> u32 {
        let age = clock.wrapping_sub(self.clock()) & Self::CLOCK_MASK;
        if age > Self::CLOCK_MASK / 2 { 0 } else { age }
    }
}

/// A line of map `FLOWS`, mmap-able; `values[i]` belongs to `keys[i]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct FlowLine {
    /// The keys.
    pub keys: [FlowKey; FLOWS_PER_LINE],
    /// Their owners.
    pub values: [FlowValue; FLOWS_PER_LINE],
}

const _: () = assert!(size_of::<FlowLine>() == 64);

/// Map `TRACKING`, per CPU, indexed by [`super::ServiceEntry::number`]: what became of packets that needed the flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TrackingCounters {
    /// Packets whose flow was in the table.
    pub hits: u64,
    /// New flows that were written down.
    pub inserted: u64,
    /// Established flows that were written down for their previous owner.
    pub adopted: u64,
    /// Entries that made room for another flow.
    pub evicted: u64,
    /// Flows that were not written down: no room, or too many new ones. They stay with the previous owner.
    pub refused: u64,
    /// Packets whose QUIC connection ID named their backend.
    pub routed: u64,
    /// Packets whose QUIC connection ID named none, so that they were placed as any other.
    pub unroutable: u64,
    /// The program's own: high half the flow clock, low half how many new flows were written down at that time.
    pub budget: u64,
}

const _: () = assert!(size_of::<TrackingCounters>() == 64);

impl TrackingCounters {
    /// Adds what was counted elsewhere, on another CPU or for another pool; a budget is nobody else's.
    pub fn add(&mut self, other: &Self) {
        let Self {
            hits,
            inserted,
            adopted,
            evicted,
            refused,
            routed,
            unroutable,
            budget: _,
        } = *other;
        self.hits += hits;
        self.inserted += inserted;
        self.adopted += adopted;
        self.evicted += evicted;
        self.refused += refused;
        self.routed += routed;
        self.unroutable += unroutable;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_gives_back_what_it_was_made_of() {
        for (owner, service, clock) in [
            (0, 0, 0),
            (0x7fff, 0x00ff_ffff, FlowValue::CLOCK_MASK),
            (5, 0x0001_0007, 99),
        ] {
            for state in [
                FlowState::Embryonic,
                FlowState::Established,
                FlowState::Closing,
                FlowState::Reset,
            ] {
                let value = FlowValue::new(owner, state, service, clock);
                assert!(
                    value.is_of(service) && !value.is_of(service ^ 1) && !value.is_of(service ^ 0x0001_0000)
                );
                assert_eq!(
                    (
                        value.owner(),
                        value.state(),
                        value.service(),
                        value.vip(),
                        value.clock()
                    ),
                    (owner, Some(state), service & 0xffff, service >> 16, clock)
                );
            }
        }
    }

    #[test]
    fn nobody_takes_a_free_or_claimed_entry_for_a_flow() {
        for value in [FlowValue::FREE, FlowValue::CLAIMED] {
            assert!(!value.is_of(0) && !value.is_used());
            assert_eq!(value.state(), None);
        }
    }

    /// Their clock had a bit more, where the state has its third one now.
    #[test]
    fn entries_of_earlier_programs_keep_owner_state_and_age() {
        const EARLIER_BIT: u64 = 1 << 63;
        let earlier = |state| FlowValue(FlowValue::new(5, state, 7, 100).0 | EARLIER_BIT);
        for (state, then) in [
            (FlowState::Embryonic, FlowState::Embryonic),
            (FlowState::Established, FlowState::Established),
            // Either was remembered for as long as the second is.
            (FlowState::Closing, FlowState::Reset),
        ] {
            let value = earlier(state);
            assert!(value.is_of(7));
            assert_eq!((value.owner(), value.state(), value.age(103)), (5, Some(then), 3));
        }
    }

    #[test]
    fn ages_go_on_when_the_clock_starts_anew() {
        let value = FlowValue::new(1, FlowState::Established, 1, FlowValue::CLOCK_MASK - 1);
        assert_eq!(value.age(FlowValue::CLOCK_MASK), 1);
        assert_eq!(value.age(3), 5);
    }

    #[test]
    fn a_flow_that_was_seen_after_the_clock_was_read_is_new() {
        let value = FlowValue::new(1, FlowState::Established, 1, 100);
        assert_eq!(value.age(99), 0);
        assert_eq!(
            FlowValue::new(1, FlowState::Established, 1, 0).age(FlowValue::CLOCK_MASK),
            0
        );
    }

    #[test]
    fn a_key_tells_its_slot_and_keeps_the_rest_of_the_flow() {
        let (client, flow) = (0xabcd_1111_2222_3333, 0x1234_5678_9abc_def0);
        let key = FlowKey::new(client, flow);
        assert_eq!(key.slot(0xffff), 0xabcd);
        assert_eq!(key.0 << 16, flow << 16);
        assert_eq!(FlowKey::new(flow, flow).0, flow);
        assert!(key.line(1 << 18) < 1 << 18);
    }
}
