//! `rendezvous` is as even as dice, and moves what must move only.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::desired::Scheduler;
use crate::schedule::tests::{Step, checksum, counts, members, next, slots, step, weights};

/// The chi-square of counts against shares, by its degrees of freedom: about 1 if counts differ from shares as dice do.
fn unevenness(table: &[BackendId], members: &[Member]) -> f64 {
    let counts = counts(table);
    let sum: f64 = members.iter().map(|m| f64::from(m.weight)).sum();
    let square = |m: &Member| {
        let share = f64::from(m.weight) / sum * table.len() as f64;
        (f64::from(counts.get(&m.id).copied().unwrap_or(0)) - share).powi(2) / share
    };
    members.iter().map(square).sum::<f64>() / (members.len() - 1) as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rendezvous_moves_slots_from_and_to_changed_members_only(
        weights in weights(), slots in slots(), steps in vec(step(), 1..10),
    ) {
        let mut members = members(&weights);
        for step in steps.iter().filter(|step| !matches!(step, Step::Grow)) {
            let before = members.clone();
            step.change(&mut members, &mut 0);
            let (Some(old), Some(new)) = (
                next(Scheduler::Rendezvous, None, &before, slots),
                next(Scheduler::Rendezvous, None, &members, slots),
            ) else {
                continue;
            };
            let weight = |set: &[Member], id| set.iter().find(|m| m.id == id).map_or(0, |m| m.weight);
            for (from, to) in old.iter().zip(&new).filter(|(from, to)| from != to) {
                // From one that became lighter, or to one that became heavier, or both.
                prop_assert!(
                    weight(&members, *from) < weight(&before, *from)
                        || weight(&members, *to) > weight(&before, *to)
                );
            }
        }
    }
}

#[test]
fn rendezvous_is_as_even_as_dice() {
    let ramp: Vec<u16> = (1..=100).collect();
    let two: Vec<u16> = [vec![65_535; 5], vec![6553; 50]].concat();
    for weights in [&[1; 1000][..], &[1; 100], &ramp, &two, &[1, 2], &[1, 10, 100]] {
        let members = members(weights);
        let table = next(Scheduler::Rendezvous, None, &members, 65_536).unwrap();
        let unevenness = unevenness(&table, &members);
        assert!(
            unevenness < 1.6 + 8.0 / members.len() as f64,
            "{unevenness} with {} members",
            members.len()
        );
    }
}

#[test]
fn rendezvous_stands_extreme_weights() {
    let members = members(&[65_535, 1]);
    let table = next(Scheduler::Rendezvous, None, &members, 65_536).unwrap();
    let light = counts(&table).get(&members[1].id).copied().unwrap_or(0);
    assert!(light < 10, "{light} slots for a share of one");
}

/// Tables must not differ between releases or machines.
#[test]
fn tables_are_what_they_have_always_been() {
    let weights: Vec<u16> = (0..100).map(|n| n % 7).collect();
    let table = rendezvous(&members(&weights), 16_384).unwrap();
    assert_eq!(checksum(&table), 0x3ba6_e5d9_e632_bb34, "{:#x}", checksum(&table));
}
