//! Totals and rates per backend, from counters that belong to target cells.
//!
//! A backend may move from one cell to another, and a cell to another backend; what is counted here never goes back.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use lb_common::abi::Count;

use crate::plan::Whose;

/// Rates are smoothed over about this long.
const SMOOTHING: Duration = Duration::from_secs(3);

/// A backend's totals and rates.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Since the agent started.
    pub(super) total: Count,
    /// Packets, bytes and new flows a second.
    pub(super) rates: [f64; 3],
}

/// What the cells have counted, by whom they belong to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    seen: HashMap<u32, Count>,
    figures: HashMap<Whose, Figures>,
    at: Option<Instant>,
}

impl Tally {
    /// A backend's figures.
    pub(super) fn of(&self, whose: &Whose) -> Figures {
        self.figures.get(whose).copied().unwrap_or_default()
    }

    /// Takes in new readings of the cells in use. Called at a steady pace, and before cells change hands.
    pub(super) fn take(&mut self, readings: impl IntoIterator<Item = (u32, Whose, Count)>, now: Instant) {
        let elapsed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let mut gained: HashMap<Whose, Count> = HashMap::new();
        for (cell, whose, count) in readings {
            let before = self.seen.insert(cell, count).unwrap_or_default();
            add(gained.entry(whose).or_default(), &minus(&count, &before));
        }
        // A reading between two regular ones adds to the totals; rates want a second or so to be measured over.
        let measures = elapsed >= Duration::from_millis(500);
        for (whose, gain) in gained {
            let figures = self.figures.entry(whose).or_default();
            add(&mut figures.total, &gain);
            add(&mut figures.since, &gain);
            if measures {
                figures.measure(elapsed);
            }
        }
        if measures || self.at.is_none() {
            self.at = Some(now);
        }
    }

    /// Forgets backends that are gone. Their cells' readings stay: the kernel's counters go on from there.
    pub(super) fn keep(&mut self, alive: impl Fn(&Whose) -> bool) {
        self.figures.retain(|whose, _| alive(whose));
    }
}
