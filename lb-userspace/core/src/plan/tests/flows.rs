//! The flow table under many threads: what one CPU reads while others write.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use lb_common::{
    abi::{FlowKey, FlowState, FlowValue, Placement, Slot},
    flow::{self, Event, FlowTable, Query, Selected, SharedLine, Word},
};

/// The table as one CPU has it: the lines are everybody's.
struct Cpu<'t> {
    lines: &'t [SharedLine],
    clock: &'t AtomicU32,
    evicted: &'t AtomicU64,
}

impl FlowTable for Cpu<'_> {
    fn lines(&self) -> u32 {
        self.lines.len() as u32
    }

    fn line(&self, index: u32) -> Option<&SharedLine> {
        self.lines.get(index as usize)
    }

    fn previous_owner(&self, _: u32) -> Option<Slot> {
        None
    }

    fn exchange(&self, word: &Word, old: u64, new: u64) -> bool {
        word.exchange(old, new)
    }

    fn known(&self, query: &Query, value: FlowValue, entry: u32) -> Selected {
        flow::known(self, query, value, entry)
    }

    fn insert(&self, key: FlowKey, value: FlowValue, clock: u32) -> bool {
        flow::insert(self, key, value, clock)
    }

    fn better(&self, best: u32, nth: u32, value: FlowValue, clock: u32) -> u32 {
        flow::better(best, nth, value, clock)
    }

    fn clock(&self) -> u32 {
        self.clock.load(Relaxed)
    }

    fn count(&self, _: u32, event: Event) {
        if event == Event::Evicted {
            self.evicted.fetch_add(1, Relaxed);
        }
    }

    fn spend(&self, _: u32, _: u32) -> bool {
        true
    }
}

const SERVICE: u32 = 3;
const ACK: u8 = 0x10;
const FIN: u8 = 0x11;

/// A service that tracks all flows, so that a flow's owner is what the slot says when it is first seen: here a number
/// that only this flow has.
fn query(flow: u32, flags: u8) -> Query {
    Query {
        // All flows in two lines.
        key: FlowKey(u64::from(flow) << 32 | 0xabcd),
        service: SERVICE,
        packet: Query::packet(Slot::owned_by(flow as u16), flags) | Query::IS_ALWAYS,
        slot_index: 0,
    }
}

/// Threads fight for two lines with far more flows than fit, while the clock runs and a sweep deletes: each packet
/// goes to its own flow's owner, whatever entry it was read from.
#[test]
fn nobody_ever_gets_the_owner_of_another_flow() {
    const THREADS: u32 = 4;
    const FLOWS: u32 = 64;
    const PACKETS: u32 = 200_000;
    let lines = [SharedLine::default(), SharedLine::default()];
    let (clock, evicted, hits) = (AtomicU32::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (clock, lines, evicted, hits) = (&clock, &lines, &evicted, &hits);
                scope.spawn(move || {
                    let cpu = Cpu {
                        lines,
                        clock,
                        evicted,
                    };
                    let mut random = u64::from(thread) * 77 + 1;
                    for packet in 0..PACKETS {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let flow = (random >> 40) as u32 % FLOWS;
                        if packet % 8 == 0 {
                            clock.fetch_add(1, Relaxed);
                        }
                        // Flows that are over make room for others.
                        let flags = if (random >> 33).is_multiple_of(4) {
                            FIN
                        } else {
                            ACK
                        };
                        let placed = flow::look_up(&cpu, &query(flow, flags));
                        assert_eq!(placed.owner(), flow, "packet {packet} of thread {thread}");
                        let known = placed.placement() == Placement::Known.number();
                        hits.fetch_add(u64::from(known), Relaxed);
                    }
                })
            })
            .collect();
        let sweep = scope.spawn(|| {
            while !done.load(Relaxed) {
                for line in &lines {
                    line.visit(&mut |key, value| {
                        assert_eq!(
                            u64::from(value.owner()),
                            key.0 >> 32,
                            "an entry says its own flow's owner"
                        );
                        (key.0 >> 32).is_multiple_of(5).then_some(FlowValue::FREE)
                    });
                }
                std::thread::yield_now();
            }
        });
        let ended: Vec<_> = workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Relaxed);
        sweep.join().unwrap();
        for worker in ended {
            worker.unwrap();
        }
    });
    assert!(hits.load(Relaxed) > 1000, "{hits:?} packets met their entries");
    assert!(evicted.load(Relaxed) > 100, "{evicted:?} entries changed hands");
}

/// Eight entries in all states and of all ages, and a newcomer: which one goes.
fn evicted_from(entries: [(FlowState, u32); 8]) -> Option<u32> {
    let lines = [SharedLine::default(), SharedLine::default()];
    let (clock, evicted) = (AtomicU32::new(50_000), AtomicU64::new(0));
    for (flow, (state, age)) in (0..).zip(entries) {
        let value = FlowValue::new(flow, state, SERVICE, 50_000 - age);
        assert!(lines.iter().any(|line| line.put(query(flow, ACK).key, value)));
    }
    let cpu = Cpu {
        lines: &lines,
        clock: &clock,
        evicted: &evicted,
    };
    let value = FlowValue::new(100, FlowState::Embryonic, SERVICE, 50_000);
    let taken = flow::insert(&cpu, query(100, ACK).key, value, 50_000);
    let mut left = Vec::new();
    for line in &lines {
        line.visit(&mut |_, value| {
            left.push(value.owner());
            None
        });
    }
    assert_eq!(left.contains(&100), taken);
    (0..8).find(|flow| !left.contains(flow))
}

proptest::proptest! {
    #[test]
    fn eviction_takes_what_is_missed_least_and_nothing_that_lives(
        entries in proptest::array::uniform8((
            proptest::sample::select(vec![
                FlowState::Embryonic,
                FlowState::Established,
                FlowState::Closing,
                FlowState::Reset,
            ]),
            0_u32..3000,
        )),
    ) {
        let evicted = evicted_from(entries);
        let half_open = |(state, age): &(FlowState, u32)| *state != FlowState::Established && *age >= flow::GRACE;
        let silent = |(state, age): &(FlowState, u32)| *state == FlowState::Established && *age >= flow::IDLE;
        let oldest = |of: &dyn Fn(&(FlowState, u32)) -> bool| {
            entries.iter().filter(|entry| of(entry)).map(|(_, age)| *age).max()
        };
        match (oldest(&half_open), oldest(&silent), evicted) {
            (Some(age), _, Some(flow)) => {
                let entry = entries[flow as usize];
                proptest::prop_assert!(half_open(&entry) && entry.1 == age, "{:?}", entry);
            }
            (None, Some(age), Some(flow)) => {
                let entry = entries[flow as usize];
                proptest::prop_assert!(silent(&entry) && entry.1 == age, "{:?}", entry);
            }
            (None, None, None) => {}
            other => proptest::prop_assert!(false, "{:?}", other),
        }
    }
}
