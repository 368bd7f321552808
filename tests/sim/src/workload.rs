//! What clients do: how long a flow thinks between packets, how many it sends, and how it ends.
//!
//! What must hold: but for those who are silent for long, no flow ever pauses for longer than the shortest window of its
//! service.

use std::time::Duration;

use lb_core::desired::Protocol;
use rand::Rng;

use super::{hosts::Life, services, wheel::TICK_MILLIS};

/// How a flow goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Habit {
    /// Many packets, fractions of a second to seconds apart.
    Chatty,
    /// Some packets, up to a third of a window apart.
    Occasional,
    /// Few packets, half a window to just under a window apart.
    Quiet,
    /// Pauses now and then for longer than any window: outside the promise.
    Silent,
}

impl Habit {
    /// Of a new flow: six of ten are chatty, and one of fifty is silent for long.
    fn draw(rng: &mut impl Rng) -> Self {
        match rng.random_range(0..100) {
            0..60 => Self::Chatty,
            60..88 => Self::Occasional,
            88..98 => Self::Quiet,
            _ => Self::Silent,
        }
    }

    /// Packets that such a flow sends on average.
    fn packets(self) -> f64 {
        match self {
            Self::Chatty => 18.0,
            Self::Occasional => 10.0,
            Self::Quiet => 6.0,
            Self::Silent => 5.0,
        }
    }
}

/// How a flow ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum End {
    /// FIN, and an ACK after it.
    Fin,
    /// FIN, and then acknowledgments of an answer that takes its time.
    HalfClose,
    /// RST.
    Reset,
    /// It sends no more.
    Silence,
}

impl End {
    fn draw(protocol: Protocol, rng: &mut impl Rng) -> Self {
        match (protocol, rng.random_range(0..20)) {
            (Protocol::Tcp, 0..10) => Self::Fin,
            (Protocol::Tcp, 10..14) => Self::HalfClose,
            (Protocol::Tcp, 14..19) => Self::Reset,
            _ => Self::Silence,
        }
    }
}

/// Packets that a client sends after its FIN while its backend answers.
pub(super) const ACKNOWLEDGMENTS: u16 = 4;

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Nothing of it has reached a backend.
    New,
    /// Established.
    Open,
    /// A FIN has been sent; an ACK follows.
    Closing,
    /// A FIN has been sent; the backend answers for as long as there are packets left to send.
    HalfClosed,
    /// It has ended by itself.
    Ended,
}

/// A flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// Its client socket, by number.
    pub(super) socket: u32,
    /// The life that it belongs to: where its first packet went.
    pub(super) owner: Life,
    /// The life that it would belong to by the slot tables alone.
    pub(super) stateless: Life,
    /// The life that it would belong to if only SYNs told flows apart.
    pub(super) syn_rule: Life,
    /// Packets left to send.
    pub(super) left: u16,
    pub(super) service: u8,
    pub(super) v6: bool,
    pub(super) habit: Habit,
    pub(super) stage: Stage,
    pub(super) end: End,
    /// Whether it has been silent for longer than it may.
    pub(super) outside: bool,
}

impl Flow {
    pub(super) fn new(socket: u32, service: u8, v6: bool, protocol: Protocol, rng: &mut impl Rng) -> Self {
        let habit = Habit::draw(rng);
        let left = 2.0 + exponential(rng, habit.packets() - 2.0);
        Self {
            socket,
            owner: Life::NONE,
            stateless: Life::NONE,
            syn_rule: Life::NONE,
            left: left.min(f64::from(u16::MAX)) as u16,
            service,
            v6,
            habit,
            stage: Stage::New,
            end: End::draw(protocol, rng),
            outside: false,
        }
    }
}

/// Pauses of flows of one protocol, in ticks.
pub(super) struct Pauses {
    /// No pause may be longer than this.
    shortest_window: u32,
    longest_window: u32,
}

impl Pauses {
    pub(super) fn new(protocol: Protocol) -> Self {
        let ticks = |window: Duration| window.as_millis() as u64 / TICK_MILLIS;
        let [longest, shortest] = services::windows(protocol).map(ticks);
        Self {
            shortest_window: shortest as u32,
            longest_window: longest as u32,
        }
    }

    /// Whether a flow that pauses so long is outside the promise.
    pub(super) fn is_outside(&self, pause: u32) -> bool {
        pause > self.shortest_window
    }

    /// The next pause.
    pub(super) fn draw(&self, habit: Habit, rng: &mut impl Rng) -> u32 {
        let window = self.shortest_window;
        let ticks = match habit {
            Habit::Chatty => rng.random_range(1..=window / 30),
            Habit::Occasional => rng.random_range(window / 30..=window / 3),
            Habit::Quiet => rng.random_range(window / 2..=window - 1),
            Habit::Silent if rng.random_range(0..3) == 0 => {
                rng.random_range(self.longest_window + 1..=self.longest_window * 3)
            }
            Habit::Silent => rng.random_range(window / 30..=window / 3),
        };
        ticks.max(1)
    }
}

/// A number from the exponential distribution of that mean.
pub(super) fn exponential(rng: &mut impl Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn only_the_silent_pause_for_longer_than_a_window() {
        let mut rng = StdRng::seed_from_u64(1);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let pauses = Pauses::new(protocol);
            for habit in [Habit::Chatty, Habit::Occasional, Habit::Quiet, Habit::Silent] {
                let outside = (0..1000).filter(|_| pauses.is_outside(pauses.draw(habit, &mut rng)));
                assert_eq!(outside.count() > 0, habit == Habit::Silent, "{habit:?}");
            }
        }
    }
}
