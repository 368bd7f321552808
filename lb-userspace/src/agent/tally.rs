//! Totals and rates per backend, from counters that belong to target cells.
//!
//! A backend may move from one cell to another, and a cell to another backend; what is counted here never goes back.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use lb_common::abi::TargetCounters;

use lb_core::plan::BackendRef;

/// Rates are smoothed over about this long.
const SMOOTHING: Duration = Duration::from_secs(3);

/// A backend's totals and rates.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Since the agent started.
    pub(super) total: TargetCounters,
    /// Packets, bytes and new flows a second.
    pub(super) rates: [f64; 3],
    /// Since the rates were measured last.
    window: TargetCounters,
}

impl Figures {
    fn gain(&mut self, gain: &TargetCounters) {
        self.total.add(gain);
        self.window.add(gain);
    }

    /// Moves the rates toward what the window says.
    fn measure(&mut self, elapsed: Duration) {
        let weight = 1.0 - (-elapsed.as_secs_f64() / SMOOTHING.as_secs_f64()).exp();
        let TargetCounters {
            packets,
            bytes,
            flows,
            ..
        } = std::mem::take(&mut self.window);
        for (rate, gained) in self.rates.iter_mut().zip([packets, bytes, flows]) {
            *rate += weight * (gained as f64 / elapsed.as_secs_f64() - *rate);
        }
    }
}

/// What the cells have counted, by whom they belong to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    seen: HashMap<u32, TargetCounters>,
    figures: HashMap<BackendRef, Figures>,
    at: Option<Instant>,
}

impl Tally {
    /// Goes on from counters that counted for an earlier agent: what they say now is nobody's. All cells have to be
    /// among them, as free ones are given away later.
    pub(super) fn after(readings: impl IntoIterator<Item = (u32, TargetCounters)>) -> Self {
        Self {
            seen: readings
                .into_iter()
                .filter(|(_, count)| *count != TargetCounters::default())
                .collect(),
            ..Self::default()
        }
    }

    /// A backend's figures.
    pub(super) fn of(&self, backend_ref: &BackendRef) -> Figures {
        self.figures.get(backend_ref).copied().unwrap_or_default()
    }

    /// Packets that nat backends had returned to clients, all together.
    pub(super) fn returned(&self) -> u64 {
        self.figures
            .values()
            .map(|figures| figures.total.returned_packets)
            .sum()
    }

    /// Takes in new readings of cells that are about to change hands.
    pub(super) fn add(&mut self, readings: impl IntoIterator<Item = (u32, BackendRef, TargetCounters)>) {
        for (backend_ref, gain) in self.gained(readings) {
            self.figures.entry(backend_ref).or_default().gain(&gain);
        }
    }

    /// What backends have gained since the last readings.
    fn gained(
        &mut self,
        readings: impl IntoIterator<Item = (u32, BackendRef, TargetCounters)>,
    ) -> HashMap<BackendRef, TargetCounters> {
        let mut gained: HashMap<BackendRef, TargetCounters> = HashMap::new();
        for (cell, backend_ref, count) in readings {
            let before = self.seen.insert(cell, count).unwrap_or_default();
            gained
                .entry(backend_ref)
                .or_default()
                .add(&minus(&count, &before));
        }
        gained
    }

    /// Takes in new readings of all cells in use. Called at a steady pace.
    pub(super) fn take(
        &mut self,
        readings: impl IntoIterator<Item = (u32, BackendRef, TargetCounters)>,
        now: Instant,
    ) {
        let elapsed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let gained = self.gained(readings);
        // A reading between two regular ones adds to the totals; rates want a second or so to be measured over.
        let measures = elapsed >= Duration::from_millis(500);
        for (backend_ref, gain) in gained {
            let figures = self.figures.entry(backend_ref).or_default();
            figures.gain(&gain);
            if measures {
                figures.measure(elapsed);
            }
        }
        if measures || self.at.is_none() {
            self.at = Some(now);
        }
    }

    /// Forgets a backend that is gone. Its cells' readings stay: the kernel's counters go on from there.
    pub(super) fn forget(&mut self, backend_ref: &BackendRef) {
        self.figures.remove(backend_ref);
    }
}

/// Counters only grow; a smaller reading would mean a new map, which starts from zero.
fn minus(now: &TargetCounters, before: &TargetCounters) -> TargetCounters {
    TargetCounters {
        packets: now.packets.saturating_sub(before.packets),
        bytes: now.bytes.saturating_sub(before.bytes),
        flows: now.flows.saturating_sub(before.flows),
        returned_packets: now.returned_packets.saturating_sub(before.returned_packets),
        returned_bytes: now.returned_bytes.saturating_sub(before.returned_bytes),
        closed: now.closed.saturating_sub(before.closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend_ref(backend: &str) -> BackendRef {
        BackendRef {
            service: "web".parse().unwrap(),
            backend: backend.parse().unwrap(),
        }
    }

    #[test]
    fn what_was_counted_for_an_earlier_agent_is_nobodys() {
        let a = backend_ref("10.0.0.1");
        let packets = |packets| TargetCounters {
            packets,
            ..TargetCounters::default()
        };
        let mut tally = Tally::after([(0, packets(1000)), (1, packets(5)), (2, packets(0))]);
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        tally.take([(0, a.clone(), packets(1003))], second(0));
        tally.take(
            [(0, a.clone(), packets(1003)), (1, a.clone(), packets(6))],
            second(1),
        );
        assert_eq!(tally.of(&a).total.packets, 4);
        assert!(tally.of(&a).rates[0] < 5.0, "{:?}", tally.of(&a));
    }

    #[test]
    fn totals_follow_a_backend_from_cell_to_cell() {
        let (a, b) = (backend_ref("10.0.0.1"), backend_ref("10.0.0.2"));
        let packets = |packets| TargetCounters {
            packets,
            ..TargetCounters::default()
        };
        let mut tally = Tally::default();
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        tally.take([(0, a.clone(), packets(10))], second(0));
        tally.take(
            [(0, a.clone(), packets(15)), (1, a.clone(), packets(3))],
            second(1),
        );
        tally.take(
            [(0, b.clone(), packets(20)), (1, a.clone(), packets(4))],
            second(2),
        );
        assert_eq!(tally.of(&a).total.packets, 19);
        assert_eq!(tally.of(&b).total.packets, 5);
        assert!(tally.of(&b).rates[0] > 0.0);
        tally.forget(&b);
        assert_eq!(tally.of(&b).total.packets, 0);
    }
}
