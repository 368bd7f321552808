//! When each flow sends its next packet: a timing wheel, so that an event costs no comparison and no allocation.
//!
//! What must hold: what is scheduled is due at its tick, neither earlier nor later.

/// Milliseconds of a tick: all times of the simulation are multiples of it.
pub(super) const TICK_MILLIS: u64 = 64;

/// Events by the tick at which they are due.
pub(super) struct Wheel {
    buckets: Vec<Vec<u32>>,
    now: u64,
}

impl Wheel {
    /// Ticks that an event may lie ahead; 17 minutes.
    const HORIZON: usize = 1 << 14;

    pub(super) fn new() -> Self {
        Self {
            buckets: vec![Vec::new(); Self::HORIZON],
            now: 0,
        }
    }

    /// Puts `event` that many ticks ahead; those that are too many or none are brought within what there is.
    pub(super) fn schedule(&mut self, event: u32, ticks: u32) {
        let ahead = u64::from(ticks).clamp(1, Self::HORIZON as u64 - 1);
        let bucket = self.bucket_at(self.now + ahead);
        self.buckets[bucket].push(event);
    }

    /// Goes on to the next tick; `due` becomes the events of it, and its memory is used again.
    pub(super) fn advance(&mut self, due: &mut Vec<u32>) {
        self.now += 1;
        due.clear();
        let bucket = self.bucket_at(self.now);
        std::mem::swap(&mut self.buckets[bucket], due);
    }

    fn bucket_at(&self, tick: u64) -> usize {
        (tick % Self::HORIZON as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_at_their_tick() {
        let mut wheel = Wheel::new();
        let mut due = Vec::new();
        wheel.schedule(7, 3);
        wheel.schedule(8, 0);
        wheel.schedule(9, u32::MAX);
        let mut seen = Vec::new();
        for tick in 1..=Wheel::HORIZON as u32 {
            wheel.advance(&mut due);
            seen.extend(due.iter().map(|event| (tick, *event)));
        }
        assert_eq!(seen, [(1, 8), (3, 7), (Wheel::HORIZON as u32 - 1, 9)]);
    }
}
