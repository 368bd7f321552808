//! What pools lie in: target cells, lines of slots, and numbers. What a pool gives up rests before it is used again.

use std::{ops::Range, time::Instant};

use lb_common::abi::{PoolLocation, SLOTS_PER_LINE, Slot};

use super::{capacity::Capacity, extents::Extents, placed_pool::PlacedPool};
use crate::desired::Service;

/// Cells that a pool has given up.
#[derive(Clone, Debug, PartialEq)]
struct RetiredCells {
    at: Instant,
    targets: Range<u32>,
    slot_lines: Range<u32>,
}

/// The number of a pool that is gone. Flows may still name it, so the number rests until they have been swept.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RetiredNumber {
    at: Instant,
    number: u32,
}

/// Cells and numbers: which are free, and which rest.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Space {
    targets: Extents,
    slot_lines: Extents,
    numbers: Extents,
    cells_at_rest: Vec<RetiredCells>,
    numbers_at_rest: Vec<RetiredNumber>,
}

impl Space {
    /// All of it, free.
    pub(super) fn new(capacity: &Capacity) -> Self {
        Self {
            targets: Extents::new(capacity.target_cells()),
            slot_lines: Extents::new(capacity.slot_lines()),
            numbers: Extents::new(capacity.numbers()),
            cells_at_rest: Vec::new(),
            numbers_at_rest: Vec::new(),
        }
    }

    /// How many target cells there are.
    pub(in crate::plan) fn target_cells(&self) -> u32 {
        self.targets.capacity()
    }

    /// How many numbers there are.
    pub(in crate::plan) fn numbers(&self) -> u32 {
        self.numbers.capacity()
    }

    /// Takes a run of that many target cells.
    pub(in crate::plan) fn take_targets(&mut self, count: u32) -> Option<Range<u32>> {
        if count == 0 {
            return Some(0..0);
        }
        self.targets.take(count)
    }

    /// Takes a run of lines for that many slots.
    pub(in crate::plan) fn take_slot_lines(&mut self, slots: u32) -> Option<Range<u32>> {
        self.slot_lines.take(slots / SLOTS_PER_LINE)
    }

    /// Takes a number.
    pub(in crate::plan) fn take_number(&mut self) -> Option<u32> {
        Some(self.numbers.take(1)?.start)
    }

    /// Takes that number, if it is free.
    pub(in crate::plan) fn reserve_number(&mut self, number: u32) -> bool {
        self.numbers.reserve(&(number..number + 1))
    }

    /// Takes the cells of that location; `None` if they are outside the tables or not free.
    pub(in crate::plan) fn reserve_cells(&mut self, location: &PoolLocation) -> Option<()> {
        let possible = location.slots.is_power_of_two()
            && (SLOTS_PER_LINE..=Service::MAX_SLOTS).contains(&location.slots)
            && location.targets <= u32::from(Slot::NONE.0)
            && location.target.checked_add(location.targets).is_some()
            && location
                .slot_line
                .checked_add(location.slots / SLOTS_PER_LINE)
                .is_some();
        (possible
            && self.targets.reserve(&targets(location))
            && self.slot_lines.reserve(&slot_lines(location)))
        .then_some(())
    }

    /// Lets the cells of a pool rest.
    pub(super) fn retire_pool(&mut self, placed: &PlacedPool, at: Instant) {
        self.retire_cells(placed.targets.clone(), placed.slot_lines.clone(), at);
    }

    /// Lets cells rest.
    pub(in crate::plan) fn retire_cells(&mut self, targets: Range<u32>, slot_lines: Range<u32>, at: Instant) {
        self.cells_at_rest.push(RetiredCells {
            at,
            targets,
            slot_lines,
        });
    }

    /// Lets a number rest.
    pub(in crate::plan) fn retire_number(&mut self, number: u32, at: Instant) {
        self.numbers_at_rest.push(RetiredNumber { at, number });
    }

    /// Begins the rest of everything anew. Where tables were read back, the first plan gives up what nothing is to lead
    /// to any more, not the reading.
    pub(super) fn rest_anew(&mut self, now: Instant) {
        for cells in &mut self.cells_at_rest {
            cells.at = now;
        }
        for number in &mut self.numbers_at_rest {
            number.at = now;
        }
    }

    /// Makes those cells usable that rest since a time that is `cold`.
    pub(super) fn release(&mut self, cold: impl Fn(Instant) -> bool) {
        let (free, keep) = std::mem::take(&mut self.cells_at_rest)
            .into_iter()
            .partition::<Vec<_>, _>(|cells| cold(cells.at));
        self.cells_at_rest = keep;
        for RetiredCells {
            targets, slot_lines, ..
        } in free
        {
            if !targets.is_empty() {
                self.targets.give(targets);
            }
            self.slot_lines.give(slot_lines);
        }
    }

    /// Makes those numbers usable that rest since a time that is `cold`, and yields them. No flow may name them.
    pub(in crate::plan) fn release_numbers(&mut self, cold: impl Fn(Instant) -> bool) -> Vec<u32> {
        let (free, keep) = std::mem::take(&mut self.numbers_at_rest)
            .into_iter()
            .partition::<Vec<_>, _>(|number| cold(number.at));
        self.numbers_at_rest = keep;
        let free: Vec<u32> = free.into_iter().map(|retired| retired.number).collect();
        for number in &free {
            self.numbers.give(*number..*number + 1);
        }
        free
    }

    /// Whether cells or numbers rest.
    pub(super) fn has_retired(&self) -> bool {
        !self.cells_at_rest.is_empty() || self.has_retired_numbers()
    }

    /// Whether numbers rest.
    pub(in crate::plan) fn has_retired_numbers(&self) -> bool {
        !self.numbers_at_rest.is_empty()
    }
}

/// The target cells of a location.
pub(in crate::plan) fn targets(location: &PoolLocation) -> Range<u32> {
    location.target..location.target + location.targets
}

/// The lines of slots of a location.
pub(in crate::plan) fn slot_lines(location: &PoolLocation) -> Range<u32> {
    location.slot_line..location.slot_line + location.slots / SLOTS_PER_LINE
}
