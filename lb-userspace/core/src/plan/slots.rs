//! A pool's slots as packets see them: who owns each, who owned it before, and how long that still matters.
//!
//! Invariant: as long as packets may ask for a slot's previous owner, that owner is alive, and it has been the same
//! since before the first change of the window: whoever owned the slot in between has its flows in the flow table.

use std::{sync::Arc, time::Instant};

use lb_common::abi::Slot;

/// What becomes of a backend's flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowFate {
    /// It cannot serve them any more, or is not to.
    #[default]
    Cut,
    /// They stay with it.
    Keep,
    /// They stay with it until the last has ended, however long that takes.
    Drain,
}

/// An migrating slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MigratingSlot {
    /// Which.
    pub(super) slot: u32,
    /// When its owner changed last or, if the window is over, when that ended.
    pub(super) since: Instant,
}

/// A slot whose owner went out, and gets it back when it returns in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LentSlot {
    /// Which.
    pub(super) slot: u32,
    /// The cell of the backend that gets it back.
    pub(super) home: u16,
    /// The previous owner at that time, if the slot's window was open; or who stands in, if flows of its own may be in no
    /// table.
    pub(super) before: Option<u16>,
    /// When it was lent.
    pub(super) since: Instant,
}

/// How the flows of a pool are looked after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Care {
    /// Flows stay with the previous owner of a slot that moves.
    pub(super) tracked: bool,
    /// Flows begin with packets that tell so, as those of TCP and SCTP.
    pub(super) sees_opens: bool,
    /// Every slot that moves is lent: the only change is that backends went out or came back.
    pub(super) lends: bool,
}

/// The slots of a pool.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SlotTable {
    /// As in map `SLOTS`.
    pub(super) current: Arc<[Slot]>,
    /// As in map `PREVIOUS`: means something where `current` is migrating.
    pub(super) previous: Arc<[Slot]>,
    /// The migrating slots, by number.
    pub(super) migrating: Arc<[MigratingSlot]>,
    /// The lent slots, by number. `previous` holds the home ([`Slot::is_lent`]) unless flows have a living previous owner.
    pub(super) lent: Arc<[LentSlot]>,
}

/// What a change of slots must know of their owners, which are indexes of cells.
pub(super) trait Owners {
    /// The cell that a present owner has from now on; `None` if it has none.
    fn now_at(&self, owner: u32) -> Option<u32>;
    /// Whether all of them are where they were.
    fn stay(&self) -> bool;
    /// What becomes of the flows of the owner in that cell (as [`Owners::now_at`] gives it).
    fn flows(&self, owner: u32) -> FlowFate;
    /// Whether the owner in that cell is out, and wanted back.
    fn is_away(&self, owner: u32) -> bool;
}

impl SlotTable {
    /// Slots without a past.
    pub(super) fn new(owners: Arc<[Slot]>) -> Self {
        Self {
            previous: std::iter::repeat_n(Slot::NONE, owners.len()).collect(),
            current: owners,
            migrating: Arc::from([]),
            lent: Arc::from([]),
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
        let migrating = (0..slots / old).flat_map(|copy| {
            self.migrating.iter().map(move |entry| MigratingSlot {
                slot: entry.slot + (copy * old) as u32,
                ..*entry
            })
        });
        let lent = (0..slots / old).flat_map(|copy| {
            self.lent.iter().map(move |entry| LentSlot {
                slot: entry.slot + (copy * old) as u32,
                ..*entry
            })
        });
        Self {
            current: repeated(&self.current),
            previous: repeated(&self.previous),
            migrating: migrating.collect(),
            lent: lent.collect(),
        }
    }

    /// The same slots with the owners of `wanted` (which have no flags). Where that moves a slot, its flows stay with
    /// the previous owner if they are tracked.
    pub(super) fn changed(&self, wanted: &[Slot], owners: &impl Owners, care: Care, now: Instant) -> Self {
        let mut current = self.current.to_vec();
        let mut previous = self.previous.to_vec();
        let (mut migrating, mut lent) = (Vec::new(), Vec::new());
        let mut known = self.migrating.iter().peekable();
        let mut loans = self.lent.iter().peekable();
        let stay = owners.stay();
        for (i, next) in wanted.iter().enumerate() {
            let loan = loans.next_if(|entry| entry.slot == i as u32);
            if stay && self.current[i] == *next && loan.is_none() {
                // Safe, and as it was: almost all of them, almost always.
                continue;
            }
            let known = known.next_if(|entry| entry.slot == i as u32);
            let change = self.change(i, *next, loan, owners, care, now);
            current[i] = next.with_flag(change.is_migrating);
            if change.is_migrating || change.past.is_lent() {
                previous[i] = change.past;
            } else if previous[i].is_lent() {
                previous[i] = *next;
            }
            if change.is_migrating {
                let since = known
                    .filter(|_| change.same_window)
                    .map_or(now, |entry| entry.since);
                migrating.push(MigratingSlot {
                    slot: i as u32,
                    since,
                });
            }
            lent.extend(change.loan);
        }
        Self {
            current: current.into(),
            previous: previous.into(),
            migrating: migrating.into(),
            lent: lent.into(),
        }
    }

    /// What becomes of one slot.
    fn change(
        &self,
        i: usize,
        next: Slot,
        loan: Option<&LentSlot>,
        owners: &impl Owners,
        care: Care,
        now: Instant,
    ) -> SlotChange {
        let (slot, before) = (self.current[i], self.previous[i]);
        let lives = |owner: &u32| owners.flows(*owner) != FlowFate::Cut;
        let was = slot.owner().and_then(|owner| owners.now_at(owner));
        let moves = was != next.owner();
        let asked = slot.is_migrating() && !before.is_lent();
        let loan = match loan {
            Some(loan) => loan.moved(owners),
            None => was
                .filter(|owner| moves && (care.lends || owners.is_away(*owner)))
                .map(|home| LentSlot {
                    slot: i as u32,
                    home: home as u16,
                    before: before
                        .owner()
                        .filter(|_| asked)
                        .and_then(|owner| owners.now_at(owner))
                        .map(|owner| owner as u16),
                    since: now,
                }),
        };
        let (returned, loan) = match loan {
            Some(loan) if next.owner() == Some(u32::from(loan.home)) => (Some(loan), None),
            // Its time begins when somebody stands in: until then nobody's flows are in the way.
            Some(loan) if was.is_none() && moves => (None, Some(LentSlot { since: now, ..loan })),
            loan => (None, loan),
        };
        let had = match (slot.is_migrating(), before.is_lent()) {
            (false, _) => slot.owner(),
            (true, false) => before.owner(),
            // Who was seen to open a flow with the borrower is in the flow table; all others are the home's.
            (true, true) => slot
                .owner()
                .filter(|_| !care.sees_opens || returned.is_none() && loan.is_none()),
        };
        let alive = had
            .and_then(|owner| owners.now_at(owner))
            .filter(lives)
            .or_else(|| returned.or(loan)?.before.map(u32::from).filter(lives));
        let is_out = |loan: &LentSlot| !lives(&u32::from(loan.home));
        let is_asked = care.tracked && (slot.is_migrating() || moves);
        // Who stands in for a backend that is out, and owned the slot before: unknown flows are its own either way, but
        // those that open there must be written down.
        let stands_in = care.sees_opens && loan.as_ref().is_some_and(is_out);
        let (alive, itself) = if stands_in && alive == next.owner() {
            (None, alive)
        } else {
            (alive, None)
        };
        let loan = loan.map(|loan| LentSlot {
            before: itself.map(|owner| owner as u16).or(loan.before),
            ..loan
        });
        if let Some(owner) = alive.filter(|_| is_asked) {
            return SlotChange {
                past: Slot::owned_by(owner as u16),
                is_migrating: true,
                same_window: !moves,
                loan,
            };
        }
        // Whoever has flows here is in the flow table, or in none if nobody looked when they opened.
        let looks = care.sees_opens && loan.is_some() && moves;
        let asks = slot.is_migrating() || next.owner().is_some() && (returned.is_some() || looks);
        SlotChange {
            past: loan
                .filter(is_out)
                .map_or(next, |loan| Slot::owned_by(loan.home).with_flag(true)),
            is_migrating: care.tracked && asks,
            same_window: !moves && (before.is_lent() || self.is_over(i as u32)),
            loan,
        }
    }

    /// Whether the window of an migrating slot is over: then who is not in the flow table belongs to the current owner.
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
        let is_lent = |slot| {
            self.lent
                .binary_search_by_key(&slot, |entry: &LentSlot| entry.slot)
                .is_ok()
        };
        let over = |entry: &MigratingSlot| {
            !self.is_over(entry.slot)
                && !is_lent(entry.slot)
                && self.previous[entry.slot as usize]
                    .owner()
                    .is_none_or(|owner| ends(owner, entry.since))
        };
        if !self.migrating.iter().any(over) {
            return None;
        }
        let mut previous = self.previous.to_vec();
        let ended = |entry: &MigratingSlot| {
            if !over(entry) {
                return *entry;
            }
            previous[entry.slot as usize] = self.current[entry.slot as usize].with_flag(false);
            MigratingSlot { since: now, ..*entry }
        };
        let migrating = self.migrating.iter().map(ended).collect();
        Some(Self {
            current: Arc::clone(&self.current),
            previous: previous.into(),
            migrating,
            lent: Arc::clone(&self.lent),
        })
    }

    /// The cell of the backend that gets that slot back, if those who open flows there meanwhile are written down.
    pub(super) fn awaited(&self, slot: u32) -> Option<u32> {
        let at = self.lent.binary_search_by_key(&slot, |entry| entry.slot).ok()?;
        let current = self.current[slot as usize];
        (current.is_migrating() || current.owner().is_none()).then(|| u32::from(self.lent[at].home))
    }

    /// Whether there are loans that end.
    pub(super) fn loans_run(&self) -> bool {
        let runs = |loan: &LentSlot| self.current[loan.slot as usize].owner().is_some();
        self.lent.iter().any(runs)
    }

    /// With the loans ended that `ends` says so of: since when the slot is lent. What nobody owns stays its home's.
    pub(super) fn with_loans_ended(&self, now: Instant, ends: impl Fn(Instant) -> bool) -> Option<Self> {
        let over = |loan: &LentSlot| self.current[loan.slot as usize].owner().is_some() && ends(loan.since);
        if !self.lent.iter().any(over) {
            return None;
        }
        let mut previous = self.previous.to_vec();
        let mut migrating = self.migrating.to_vec();
        for LentSlot { slot, .. } in self.lent.iter().filter(|loan| over(loan)) {
            let before = &mut previous[*slot as usize];
            if before.is_lent() {
                *before = self.current[*slot as usize].with_flag(false);
                if let Ok(at) = migrating.binary_search_by_key(slot, |entry| entry.slot) {
                    migrating[at].since = now;
                }
            }
        }
        Some(Self {
            current: Arc::clone(&self.current),
            previous: previous.into(),
            migrating: migrating.into(),
            lent: self.lent.iter().copied().filter(|loan| !over(loan)).collect(),
        })
    }

    /// With those migrating slots made safe that `settled` says so of.
    pub(super) fn with_flags_cleared(&self, settled: impl Fn(&MigratingSlot) -> bool) -> Option<Self> {
        if !self.migrating.iter().any(&settled) {
            return None;
        }
        let mut current = self.current.to_vec();
        let (safe, migrating): (Vec<MigratingSlot>, Vec<MigratingSlot>) =
            self.migrating.iter().partition(|entry| settled(entry));
        for entry in safe {
            let slot = &mut current[entry.slot as usize];
            *slot = slot.with_flag(false);
        }
        Some(Self {
            current: current.into(),
            previous: Arc::clone(&self.previous),
            migrating: migrating.into(),
            lent: Arc::clone(&self.lent),
        })
    }
}

/// What becomes of a slot.
struct SlotChange {
    /// The previous owner, or the home.
    past: Slot,
    is_migrating: bool,
    /// Whether its window goes on.
    same_window: bool,
    loan: Option<LentSlot>,
}

impl LentSlot {
    /// The same, by the cells that owners have from now on; `None` if the home is not wanted back any more.
    fn moved(&self, owners: &impl Owners) -> Option<Self> {
        let now_at = |owner: u16| owners.now_at(u32::from(owner));
        let home = now_at(self.home)?;
        let is_wanted = owners.is_away(home) || owners.flows(home) != FlowFate::Cut;
        is_wanted.then_some(Self {
            home: home as u16,
            before: self.before.and_then(now_at).map(|owner| owner as u16),
            ..*self
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Owners 0 to 7 who stay where they are; those in the first set are dead, and wanted back if in the second, too.
    struct Dead(u8, u8);

    impl Owners for Dead {
        fn now_at(&self, owner: u32) -> Option<u32> {
            Some(owner)
        }

        fn stay(&self) -> bool {
            true
        }

        fn flows(&self, owner: u32) -> FlowFate {
            if self.0 >> owner & 1 == 1 {
                FlowFate::Cut
            } else {
                FlowFate::Keep
            }
        }

        fn is_away(&self, owner: u32) -> bool {
            self.1 >> owner & 1 == 1
        }
    }

    const CARE: Care = Care {
        tracked: true,
        sees_opens: true,
        lends: false,
    };

    fn slots(owners: &[u16]) -> Arc<[Slot]> {
        owners.iter().map(|owner| Slot::owned_by(*owner)).collect()
    }

    /// What one slot says: current owner, flag, previous owner.
    fn says(table: &SlotTable, slot: usize) -> (Option<u32>, bool, Option<u32>) {
        let current = table.current[slot];
        (
            current.owner(),
            current.is_migrating(),
            table.previous[slot].owner(),
        )
    }

    #[test]
    fn the_owner_from_before_the_first_change_stays_the_previous_one() {
        let now = Instant::now();
        let table = SlotTable::new(slots(&[0, 5]));
        let once = table.changed(&slots(&[1, 5]), &Dead(0, 0), CARE, now);
        assert_eq!(says(&once, 0), (Some(1), true, Some(0)));
        assert!(!once.current[1].is_migrating());
        let later = now + Duration::from_secs(9);
        let twice = once.changed(&slots(&[2, 5]), &Dead(0, 0), CARE, later);
        assert_eq!(says(&twice, 0), (Some(2), true, Some(0)));
        assert_eq!(
            *twice.migrating,
            [MigratingSlot {
                slot: 0,
                since: later
            }]
        );
        let back = twice.changed(&slots(&[0, 5]), &Dead(0, 0), CARE, later);
        assert_eq!(says(&back, 0), (Some(0), true, Some(0)));
    }

    #[test]
    fn the_dead_are_never_previous() {
        let now = Instant::now();
        let table = SlotTable::new(slots(&[0, 1]));
        let failed = table.changed(&slots(&[1, 1]), &Dead(1, 0), CARE, now);
        assert_eq!(says(&failed, 0).0, Some(1));
        assert!(!failed.current[0].is_migrating(), "nobody has flows on it");
        let moved = table.changed(&slots(&[2, 1]), &Dead(0, 0), CARE, now);
        let then_failed = moved.changed(&slots(&[2, 1]), &Dead(1, 0), CARE, now);
        assert_eq!(says(&then_failed, 0), (Some(2), true, Some(2)));
    }

    #[test]
    fn who_is_back_gets_its_slot_back_and_flows_of_the_stand_in_stay() {
        let now = Instant::now();
        let table = SlotTable::new(slots(&[0, 1]));
        let lent = table.changed(&slots(&[1, 1]), &Dead(1, 1), CARE, now);
        assert_eq!(says(&lent, 0), (Some(1), true, Some(0)));
        assert!(lent.previous[0].is_lent() && lent.lent.len() == 1);
        let back = lent.changed(&slots(&[0, 1]), &Dead(0, 0), CARE, now);
        assert_eq!(says(&back, 0), (Some(0), true, Some(0)));
        assert!(!back.previous[0].is_lent() && back.lent.is_empty());
        // Without a packet that tells, unknown flows are the stand-in's: also where the window before was over.
        let care = Care {
            sees_opens: false,
            ..CARE
        };
        let moved = table.changed(&slots(&[2, 1]), &Dead(0, 0), care, now);
        let over = moved.with_windows_ended(now, |_, _| true).unwrap();
        for before in [over, SlotTable::new(slots(&[2, 1]))] {
            let lent = before.changed(&slots(&[1, 1]), &Dead(4, 4), care, now);
            let back = lent.changed(&slots(&[2, 1]), &Dead(0, 0), care, now);
            assert_eq!(says(&back, 0), (Some(2), true, Some(1)));
        }
    }

    #[test]
    fn who_stands_in_where_it_was_the_previous_owner_stays_that_when_the_slot_moves_on() {
        let now = Instant::now();
        let table = SlotTable::new(slots(&[0])).changed(&slots(&[1]), &Dead(0, 0), CARE, now);
        let lent = table.changed(&slots(&[0]), &Dead(0b10, 0b10), CARE, now);
        assert_eq!(says(&lent, 0), (Some(0), true, Some(1)));
        assert!(lent.previous[0].is_lent());
        // The window of 0 is still open, and its flows that were silent since are in no table.
        for dead in [Dead(0b10, 0b10), Dead(0, 0)] {
            let moved = lent.changed(&slots(&[2]), &dead, CARE, now);
            assert_eq!(says(&moved, 0), (Some(2), true, Some(0)));
            let back = moved.changed(&slots(&[1]), &Dead(0, 0), CARE, now);
            assert_eq!(says(&back, 0), (Some(1), true, Some(0)));
        }
    }

    #[test]
    fn what_opens_with_a_stand_in_while_the_home_is_back_stays_when_that_is_out_again() {
        let now = Instant::now();
        let lent = SlotTable::new(slots(&[1])).changed(&slots(&[0]), &Dead(0b10, 0b10), CARE, now);
        // Its share does not reach for this slot: nobody is asked for, and flows that open are in no table.
        let back = lent.changed(&slots(&[0]), &Dead(0, 0), CARE, now);
        assert!(back.is_over(0) && back.lent.len() == 1);
        let out = back.changed(&slots(&[0]), &Dead(0b10, 0b10), CARE, now);
        for (wanted, dead) in [(2, Dead(0b10, 0b10)), (2, Dead(0, 0)), (1, Dead(0, 0))] {
            let moved = out.changed(&slots(&[wanted]), &dead, CARE, now);
            assert_eq!(says(&moved, 0), (Some(u32::from(wanted)), true, Some(0)));
        }
    }

    #[test]
    fn a_window_ends_and_then_the_flag_goes() {
        let now = Instant::now();
        let moved = SlotTable::new(slots(&[0, 1])).changed(&slots(&[1, 1]), &Dead(0, 0), CARE, now);
        assert_eq!(moved.with_windows_ended(now, |_, _| false), None);
        let over = moved.with_windows_ended(now, |owner, _| owner == 0).unwrap();
        assert!(over.is_over(0) && over.current[0].is_migrating());
        let safe = over.with_flags_cleared(|_| true).unwrap();
        assert_eq!(safe.current, slots(&[1, 1]));
        assert!(safe.migrating.is_empty());
    }

    proptest! {
        #[test]
        fn unsafes_are_the_slots_with_the_flag(
            start in proptest::collection::vec(0..8_u16, 32),
            steps in proptest::collection::vec((proptest::collection::vec(0..8_u16, 32), any::<u8>(), any::<u8>(), 0..4_u8), 1..12),
        ) {
            let mut now = Instant::now();
            let mut table = SlotTable::new(slots(&start));
            for (wanted, dead, back, then) in steps {
                now += Duration::from_secs(1);
                table = table.changed(&slots(&wanted), &Dead(dead, back), CARE, now);
                for (i, entry) in table.current.iter().enumerate() {
                    prop_assert_eq!(entry.owner(), Some(u32::from(wanted[i])));
                    let home = table.previous[i].is_lent();
                    let alive = home || table.previous[i].owner().is_some_and(|owner| {
                        owner == u32::from(wanted[i]) || Dead(dead, back).flows(owner) == FlowFate::Keep
                    });
                    prop_assert!(!entry.is_migrating() || alive, "slot {} has a dead previous owner", i);
                }
                if then > 0 {
                    table = table.with_windows_ended(now, |_, _| true).unwrap_or(table);
                }
                if then > 2 {
                    table = table.with_loans_ended(now, |_| true).unwrap_or(table);
                    prop_assert!(table.lent.is_empty() && !table.previous.iter().any(|slot| slot.is_lent()));
                }
                if then > 1 {
                    let over = table.clone();
                    table = table.with_flags_cleared(|entry| over.is_over(entry.slot)).unwrap_or(table);
                }
                let flagged = (0..32).filter(|i| table.current[*i as usize].is_migrating());
                prop_assert!(flagged.eq(table.migrating.iter().map(|entry| entry.slot)));
                let grown = table.grown_to(64);
                let flagged = (0..64).filter(|i| grown.current[*i as usize].is_migrating());
                prop_assert!(flagged.eq(grown.migrating.iter().map(|entry| entry.slot)));
            }
        }
    }
}
