//! `consistent` moves the least that it can, whatever happened before.

mod history;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::desired::Scheduler;
use crate::schedule::tests::{
    by_index, check_shares, checksum, counts, member, members, moved, next, shuffle, slots, step, weights,
};

/// The fewest slots that must change hands, found by another way than the scheduler's: over all ways to hand out the
/// slots that rounding down leaves over, what can be kept at most (dynamic programming over the members).
fn fewest(last: &[BackendId], members: &[Member], slots: u32) -> usize {
    let counts = counts(last);
    let sum: u64 = members.iter().map(|m| u64::from(m.weight)).sum();
    let share = |m: &Member| u64::from(m.weight) * u64::from(slots);
    let left = u64::from(slots) - members.iter().map(|m| share(m) / sum).sum::<u64>();
    // What the members so far keep at most, by how many of the leftover slots they have got.
    let mut kept = vec![None; left as usize + 1];
    kept[0] = Some(0);
    for m in members {
        let held = counts.get(&m.id).copied().unwrap_or(0).into();
        let (floor, ceiling) = (share(m) / sum, share(m).div_ceil(sum));
        for given in (0..kept.len()).rev() {
            let without = kept[given].map(|kept| kept + floor.min(held));
            let before = given.checked_sub(1).filter(|_| ceiling > floor);
            let with = before
                .and_then(|before| kept[before])
                .map(|kept| kept + ceiling.min(held));
            kept[given] = without.max(with);
        }
    }
    slots as usize - kept[left as usize].expect("a way to hand them out") as usize
}

fn doubled(table: &[BackendId], slots: u32) -> Vec<BackendId> {
    table.iter().copied().cycle().take(slots as usize).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn consistent_moves_exactly_the_minimum_however_long_it_goes_on(
        weights in weights(), slots in slots(), steps in vec(step(), 1..20),
    ) {
        let (mut members, mut slots) = (members(&weights), slots);
        let mut last: Option<Vec<BackendId>> = None;
        for step in &steps {
            let table = next(Scheduler::Consistent, last.as_deref(), &members, slots);
            prop_assert_eq!(table.is_some(), members.iter().any(|m| m.weight > 0));
            if let Some(table) = &table {
                check_shares(table, &members)?;
                if let Some(last) = &last {
                    let (ids, owners) = by_index(last);
                    let said = fewest_moves(&Last { owners: &owners, ids: &ids }, &members, slots);
                    let last = doubled(last, slots);
                    prop_assert_eq!(said as usize, fewest(&last, &members, slots));
                    prop_assert_eq!(moved(&last, table), fewest(&last, &members, slots));
                }
            }
            last = table;
            step.change(&mut members, &mut slots);
        }
    }

    #[test]
    fn consistent_does_not_depend_on_the_order_of_anything(
        weights in weights(), steps in vec(step(), 1..10), seed in any::<u64>(),
    ) {
        let (mut one, mut slots) = (members(&weights), 256);
        let mut last: Option<Vec<BackendId>> = None;
        for step in &steps {
            let mut other = one.clone();
            shuffle(&mut other, seed);
            let table = next(Scheduler::Consistent, last.as_deref(), &one, slots);
            // The names of the last table come out of a hash map each time: in another order, too.
            let same = next(Scheduler::Consistent, last.as_deref(), &other, slots);
            prop_assert_eq!(&table, &same);
            // Nor do members without weight matter.
            other.retain(|m| m.weight > 0);
            prop_assert_eq!(&table, &next(Scheduler::Consistent, last.as_deref(), &other, slots));
            last = table;
            step.change(&mut one, &mut slots);
        }
    }
}

#[test]
fn a_last_table_of_which_nothing_is_left_is_no_table() {
    let members = members(&[1, 2, 3]);
    let fresh = consistent(None, &members, 256);
    let strangers = [member(100, 1).id];
    for (owners, ids) in [
        (vec![], &strangers[..]),
        (vec![0; 256], &strangers),
        (vec![9; 64], &[]),
    ] {
        let last = Last { owners: &owners, ids };
        assert_eq!(consistent(Some(&last), &members, 256), fresh);
    }
}

#[test]
fn consistent_with_a_thousand_backends_moves_the_minimum() {
    let mut members = members(&[1; 1000]);
    let mut last = next(Scheduler::Consistent, None, &members, 65_536).unwrap();
    let mut change = |members: &[Member], least: usize, most: usize| {
        let table = next(Scheduler::Consistent, Some(&last), members, 65_536).unwrap();
        check_shares(&table, members).unwrap();
        let moved = moved(&last, &table);
        assert_eq!(moved, fewest(&last, members, 65_536));
        assert!((least..=most).contains(&moved), "{moved}");
        last = table;
    };
    members[17].weight = 0;
    change(&members, 65, 66);
    members[17].weight = 1;
    change(&members, 65, 66);
    members[3].weight = 65_535;
    change(&members, 64_000, 65_000);
    members.retain(|m| m.weight > 1);
    change(&members, 900, 1100);
}

/// Tables must not differ between releases or machines.
#[test]
fn tables_are_what_they_have_always_been() {
    let weights: Vec<u16> = (0..100).map(|n| n % 7).collect();
    let members = members(&weights);
    let canonical = consistent(None, &members, 16_384).unwrap();
    let mut changed = members.clone();
    changed[5].weight = 0;
    changed[8].weight = 70;
    let ids: Vec<BackendId> = members.iter().map(|m| m.id).collect();
    let last = Last {
        owners: &canonical,
        ids: &ids,
    };
    let next = consistent(Some(&last), &changed, 32_768).unwrap();
    assert_eq!(checksum(&next), 0xf359_7d54_5b72_5b03, "{:#x}", checksum(&next));
}
