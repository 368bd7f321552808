//! A first-fit allocator of runs of cells.

use std::ops::Range;

use imbl::OrdMap;

/// Free runs of `0..capacity`, by start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents {
    free: OrdMap<u32, u32>,
    capacity: u32,
}

impl Extents {
    /// An allocator in which all of `0..capacity` is free.
    pub fn new(capacity: u32) -> Self {
        Self {
            free: (capacity > 0).then_some((0_u32, capacity)).into_iter().collect(),
            capacity,
        }
    }

    /// How many cells there are.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many cells are taken.
    pub fn used(&self) -> u32 {
        self.capacity - self.free.values().sum::<u32>()
    }

    /// Takes `len` cells in a row, from the lowest place where they fit.
    pub fn take(&mut self, len: u32) -> Option<Range<u32>> {
        let (start, size) = self
            .free
            .iter()
            .find(|(_, size)| **size >= len)
            .map(|(start, size)| (*start, *size))?;
        self.free.remove(&start);
        if size > len {
            self.free.insert(start + len, size - len);
        }
        Some(start..start + len)
    }

    /// Takes exactly those cells, if all of them are free.
    pub fn reserve(&mut self, run: &Range<u32>) -> bool {
        if run.is_empty() {
            return run.end <= self.capacity;
        }
        let around = self.free.range(..=run.start).next_back().map(|(s, n)| (*s, *n));
        let Some((start, size)) = around.filter(|(start, size)| start + size >= run.end) else {
            return false;
        };
        self.free.remove(&start);
        if start < run.start {
            self.free.insert(start, run.start - start);
        }
        if run.end < start + size {
            self.free.insert(run.end, start + size - run.end);
        }
        true
    }

    /// Gives cells back.
    pub fn give(&mut self, run: Range<u32>) {
        let (mut start, mut end) = (run.start, run.end);
        if let Some((before, size)) = self.free.range(..start).next_back().map(|(s, n)| (*s, *n))
            && before + size == start
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(size) = self.free.remove(&end) {
            end += size;
        }
        self.free.insert(start, end - start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_never_overlap_and_all_come_back(steps in proptest::collection::vec((any::<bool>(), 1..40_u32), 1..200)) {
            let mut extents = Extents::new(500);
            let mut held: Vec<Range<u32>> = Vec::new();
            for (take, n) in steps {
                if take {
                    if let Some(run) = extents.take(n) {
                        prop_assert!(run.end <= 500 && run.len() == n as usize);
                        prop_assert!(held.iter().all(|h| h.end <= run.start || run.end <= h.start));
                        held.push(run);
                    }
                } else if !held.is_empty() {
                    extents.give(held.swap_remove(n as usize % held.len()));
                }
                prop_assert_eq!(extents.used(), held.iter().map(|h| h.len() as u32).sum::<u32>());
            }
            held.into_iter().for_each(|run| extents.give(run));
            prop_assert_eq!(extents, Extents::new(500));
        }
    }
}
