//! A pool's slots as packets see them: who owns each, who owned it before, and how long that still matters.
//!
//! Invariant: as long as packets may ask for a slot's previous owner, that owner is alive, and it has been the same
//! since before the first change of the window: whoever owned the slot in between has its flows in the flow table.

use std::{sync::Arc, time::Instant};

use lb_common::abi::Slot;

/// What becomes of a backend's flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flows {
    /// It cannot serve them any more, or is not to.
    #[default]
    Cut,
    /// They stay with it.
    Keep,
    /// They stay with it until the last has ended, however long that takes.
    Drain,
}

/// An unsafe slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsafe {
    /// Which.
    pub(super) slot: u32,
    /// When its owner changed last or, if the window is over, when that ended.
    pub(super) since: Instant,
}

/// The slots of a pool.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SlotTable {
    /// As in map `SLOTS`.
    pub(super) current: Arc<[Slot]>,
    /// As in map `PREVIOUS`: means something where `current` is unsafe.
    pub(super) previous: Arc<[Slot]>,
    /// The unsafe slots, by number.
    pub(super) unsafes: Arc<[Unsafe]>,
}

/// What a change of slots must know of their owners, which are indexes of cells.
pub(super) trait Owners {
    /// The cell that a present owner has from now on; `None` if it has none.
    fn now_at(&self, owner: u32) -> Option<u32>;
    /// Whether all of them are where they were.
    fn stay(&self) -> bool;
    /// What becomes of the flows of the owner in that cell (as [`Owners::now_at`] gives it).
    fn flows(&self, owner: u32) -> Flows;
}

impl SlotTable {
    /// Slots without a past.
    pub(super) fn new(owners: Arc<[Slot]>) -> Self {
        Self {
            previous: std::iter::repeat_n(Slot::NONE, owners.len()).collect(),
            current: owners,
            unsafes: Arc::from([]),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    /// The same table with more slots, a multiple of the present number: slots are chosen by the low bits of a hash,
    /// so that every flow keeps its owner.
    pub(super) fn grown_to(&self, slots: usize) -> Self {
        let old = self.len();
        let repeated = |table: &[Slot]| table.iter().copied().cycle().take(slots).collect();
        let unsafes = (0..slots / old).flat_map(|copy| {
            self.unsafes.iter().map(move |entry| Unsafe {
                slot: entry.slot + (copy * old) as u32,
                ..*entry
            })
        });
        Self {
            current: repeated(&self.current),
            previous: repeated(&self.previous),
            unsafes: unsafes.collect(),
        }
    }

    /// The same slots with the owners of `wanted` (which have no flags). Where that moves a slot, its flows stay with
    /// the previous owner if `tracked`.
    pub(super) fn changed(&self, wanted: &[Slot], owners: &impl Owners, tracked: bool, now: Instant) -> Self {
        let mut current = self.current.to_vec();
        let mut previous = self.previous.to_vec();
        let mut unsafes = Vec::new();
        let mut known = self.unsafes.iter().peekable();
        let stay = owners.stay();
        for (i, next) in wanted.iter().enumerate() {
            let (slot, before) = (self.current[i], self.previous[i]);
            if stay && slot == *next {
                // Safe, and as it was: almost all of them, almost always.
                continue;
            }
            let known = known.next_if(|entry| entry.slot == i as u32);
            let moves = slot.owner().and_then(|owner| owners.now_at(owner)) != next.owner();
            let had = if slot.is_unsafe() {
                before.owner()
            } else {
                slot.owner()
            };
            let alive = had
                .and_then(|owner| owners.now_at(owner))
                .filter(|owner| owners.flows(*owner) != Flows::Cut);
            let (past, is_unsafe, same_window) = match alive {
                Some(owner) if tracked => (Slot::owned_by(owner as u16), slot.is_unsafe() || moves, !moves),
                // Whoever has flows here is in the flow table.
                _ => (
                    *next,
                    tracked && slot.is_unsafe(),
                    !moves && self.is_over(i as u32),
                ),
            };
            current[i] = next.with_flag(is_unsafe);
            if is_unsafe {
                previous[i] = past;
                let since = known.filter(|_| same_window).map_or(now, |entry| entry.since);
                unsafes.push(Unsafe {
                    slot: i as u32,
                    since,
                });
            }
        }
        Self {
            current: current.into(),
            previous: previous.into(),
            unsafes: unsafes.into(),
        }
    }

    /// Whether the window of an unsafe slot is over: then who is not in the flow table belongs to the current owner.
    pub(super) fn is_over(&self, slot: u32) -> bool {
        let slot = slot as usize;
        self.previous[slot].owner() == self.current[slot].owner()
    }

    /// With the windows ended that `ends` says so of: by slot, its previous owner, and since when the window runs.
    pub(super) fn with_windows_ended(
        &self,
        now: Instant,
        ends: impl Fn(u32, Instant) -> bool,
    ) -> Option<Self> {
        let over = |entry: &Unsafe| {
            !self.is_over(entry.slot)
                && self.previous[entry.slot as usize]
                    .owner()
                    .is_none_or(|owner| ends(owner, entry.since))
        };
        if !self.unsafes.iter().any(over) {
            return None;
        }
        let mut previous = self.previous.to_vec();
        let ended = |entry: &Unsafe| {
            if !over(entry) {
                return *entry;
            }
            previous[entry.slot as usize] = self.current[entry.slot as usize].with_flag(false);
            Unsafe { since: now, ..*entry }
        };
        let unsafes = self.unsafes.iter().map(ended).collect();
        Some(Self {
            current: Arc::clone(&self.current),
            previous: previous.into(),
            unsafes,
        })
    }

    /// With those unsafe slots made safe that `settled` says so of.
    pub(super) fn with_flags_cleared(&self, settled: impl Fn(&Unsafe) -> bool) -> Option<Self> {
        if !self.unsafes.iter().any(&settled) {
            return None;
        }
        let mut current = self.current.to_vec();
        let (safe, unsafes): (Vec<Unsafe>, Vec<Unsafe>) =
            self.unsafes.iter().partition(|entry| settled(entry));
        for entry in safe {
            let slot = &mut current[entry.slot as usize];
            *slot = slot.with_flag(false);
        }
        Some(Self {
            current: current.into(),
            previous: Arc::clone(&self.previous),
            unsafes: unsafes.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Owners 0 to 7 who stay where they are; those in the set are dead.
    struct Dead(u8);

    impl Owners for Dead {
        fn now_at(&self, owner: u32) -> Option<u32> {
            Some(owner)
        }

        fn stay(&self) -> bool {
            true
        }

        fn flows(&self, owner: u32) -> Flows {
            if self.0 >> owner & 1 == 1 {
                Flows::Cut
            } else {
                Flows::Keep
            }
        }
    }

    fn slots(owners: &[u16]) -> Arc<[Slot]> {
        owners.iter().map(|owner| Slot::owned_by(*owner)).collect()
    }

    /// What one slot says: current owner, flag, previous owner.
    fn says(table: &SlotTable, slot: usize) -> (Option<u32>, bool, Option<u32>) {
        let current = table.current[slot];
        (current.owner(), current.is_unsafe(), table.previous[slot].owner())
    }

    #[test]
    fn the_owner_from_before_the_first_change_stays_the_previous_one() {
        let now = Instant::now();
        let table = SlotTable::new(slots(&[0, 5]));
        let once = table.changed(&slots(&[1, 5]), &Dead(0), true, now);
        assert_eq!(says(&once, 0), (Some(1), true, Some(0)));
        assert!(!once.current[1].is_unsafe());
        let later = now + Duration::from_secs(9);
        let twice = once.changed(&slots(&[2, 5]), &Dead(0), true, later);
        assert_eq!(says(&twice, 0), (Some(2), true, Some(0)));
        assert_eq!(
            *twice.unsafes,
            [Unsafe {
                slot: 0,
                since: later
            }]
        );
        let back = twice.changed(&slots(&[0, 5]), &Dead(0), true, later);
        assert_eq!(says(&back, 0), (Some(0), true, Some(0)));
    }

    #[test]
    fn the_dead_are_never_previous() {
        let now = Instant::now();
        let table = SlotTable::new(slots(&[0, 1]));
        let failed = table.changed(&slots(&[1, 1]), &Dead(1), true, now);
        assert_eq!(says(&failed, 0).0, Some(1));
        assert!(!failed.current[0].is_unsafe(), "nobody has flows on it");
        let moved = table.changed(&slots(&[2, 1]), &Dead(0), true, now);
        let then_failed = moved.changed(&slots(&[2, 1]), &Dead(1), true, now);
        assert_eq!(says(&then_failed, 0), (Some(2), true, Some(2)));
    }

    #[test]
    fn a_window_ends_and_then_the_flag_goes() {
        let now = Instant::now();
        let moved = SlotTable::new(slots(&[0, 1])).changed(&slots(&[1, 1]), &Dead(0), true, now);
        assert_eq!(moved.with_windows_ended(now, |_, _| false), None);
        let over = moved.with_windows_ended(now, |owner, _| owner == 0).unwrap();
        assert!(over.is_over(0) && over.current[0].is_unsafe());
        let safe = over.with_flags_cleared(|_| true).unwrap();
        assert_eq!(safe.current, slots(&[1, 1]));
        assert!(safe.unsafes.is_empty());
    }

    proptest! {
        #[test]
        fn unsafes_are_the_slots_with_the_flag(
            start in proptest::collection::vec(0..8_u16, 32),
            steps in proptest::collection::vec((proptest::collection::vec(0..8_u16, 32), any::<u8>(), 0..3_u8), 1..12),
        ) {
            let mut now = Instant::now();
            let mut table = SlotTable::new(slots(&start));
            for (wanted, dead, then) in steps {
                now += Duration::from_secs(1);
                table = table.changed(&slots(&wanted), &Dead(dead), true, now);
                for (i, entry) in table.current.iter().enumerate() {
                    prop_assert_eq!(entry.owner(), Some(u32::from(wanted[i])));
                    let alive = table.previous[i].owner().is_some_and(|owner| {
                        owner == u32::from(wanted[i]) || Dead(dead).flows(owner) == Flows::Keep
                    });
                    prop_assert!(!entry.is_unsafe() || alive, "slot {} has a dead previous owner", i);
                }
                if then > 0 {
                    table = table.with_windows_ended(now, |_, _| true).unwrap_or(table);
                }
                if then > 1 {
                    let over = table.clone();
                    table = table.with_flags_cleared(|entry| over.is_over(entry.slot)).unwrap_or(table);
                }
                let flagged = (0..32).filter(|i| table.current[*i as usize].is_unsafe());
                prop_assert!(flagged.eq(table.unsafes.iter().map(|entry| entry.slot)));
                let grown = table.grown_to(64);
                let flagged = (0..64).filter(|i| grown.current[*i as usize].is_unsafe());
                prop_assert!(flagged.eq(grown.unsafes.iter().map(|entry| entry.slot)));
            }
        }
    }
}
