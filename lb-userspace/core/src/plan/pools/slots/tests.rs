//! What packets are told of slots that move, are lent, and come to rest.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use lb_common::abi::Slot;

use super::{Care, MigratingSlot, Owners, SlotTable};
use crate::plan::pools::pool::FlowFate;

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
    fn migrating_slots_are_those_with_the_flag(
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
