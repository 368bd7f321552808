//! What all schedulers must be: fair, steady and the same everywhere.

mod history;

use std::{collections::HashMap, net::IpAddr};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const ALL: [Scheduler; 3] = [Scheduler::Consistent, Scheduler::Maglev, Scheduler::Rendezvous];

/// Members by number, so that sets can overlap.
fn member(number: u32, weight: u16) -> Member {
    let [_, a, b, c] = number.to_be_bytes();
    let id = BackendId {
        address: IpAddr::from([10, a, b, c]),
        port: None,
    };
    Member { id, weight }
}

fn members(weights: &[u16]) -> Vec<Member> {
    (0..).zip(weights).map(|(n, weight)| member(n, *weight)).collect()
}

/// A table by names, as packets see it.
fn named(owners: &[u16], members: &[Member]) -> Vec<BackendId> {
    owners
        .iter()
        .map(|owner| members[usize::from(*owner)].id)
        .collect()
}

fn counts(table: &[BackendId]) -> HashMap<BackendId, u32> {
    let mut counts = HashMap::new();
    for id in table {
        *counts.entry(*id).or_default() += 1;
    }
    counts
}

fn moved(old: &[BackendId], new: &[BackendId]) -> usize {
    old.iter().zip(new).filter(|(old, new)| old != new).count()
}

/// Names in any order, and a table of indices into them.
fn by_index(table: &[BackendId]) -> (Vec<BackendId>, Vec<u16>) {
    let ids: Vec<BackendId> = counts(table).into_keys().collect();
    let at: HashMap<BackendId, u16> = ids.iter().copied().zip(0..).collect();
    let owners = table.iter().map(|id| at[id]).collect();
    (ids, owners)
}

/// The next table after `last`, by names.
fn next(
    scheduler: Scheduler,
    last: Option<&[BackendId]>,
    members: &[Member],
    slots: u32,
) -> Option<Vec<BackendId>> {
    let last = last.map(by_index);
    let last = last.as_ref().map(|(ids, owners)| Last { owners, ids });
    let owners = schedule(scheduler, last.as_ref(), members, slots)?;
    assert_eq!(owners.len(), slots as usize);
    Some(named(&owners, members))
}

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

/// Whether every member has its share, rounded down or up.
fn check_shares(table: &[BackendId], members: &[Member]) -> Result<(), TestCaseError> {
    let counts = counts(table);
    let sum: u64 = members.iter().map(|m| u64::from(m.weight)).sum();
    for Member { id, weight } in members {
        let count = u64::from(counts.get(id).copied().unwrap_or(0));
        let share = u64::from(*weight) * table.len() as u64;
        prop_assert!(
            (share / sum..=share.div_ceil(sum)).contains(&count),
            "{id}: {count} slots for a share of {}",
            share as f64 / sum as f64
        );
    }
    Ok(())
}

/// Weights as they come, most of them equal or close, some extreme.
fn weight() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(1), 2 => 1..=20_u16, 1 => select(&[0, 1, 65_535]), 1 => any::<u16>()]
}

/// From one backend to a thousand.
fn weights() -> impl Strategy<Value = Vec<u16>> {
    prop_oneof![8 => vec(weight(), 1..40), 1 => vec(weight(), 900..=1000)]
}

fn slots() -> impl Strategy<Value = u32> {
    select(&[64, 256, 4096])
}

/// One change of a set.
#[derive(Clone, Debug)]
enum Step {
    /// The member of that number gets that weight; 0 is a failure or a removal.
    Weight(u32, u16),
    /// Many at once, as when a rack fails.
    Fail(u32, u32),
    /// The table grows to twice its size.
    Grow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..40_u32, weight()).prop_map(|(n, w)| Step::Weight(n, w)),
        1 => (0..40_u32, 1..20_u32).prop_map(|(from, n)| Step::Fail(from, n)),
        1 => Just(Step::Grow),
    ]
}

impl Step {
    fn change(&self, members: &mut Vec<Member>, slots: &mut u32) {
        match *self {
            Self::Grow => *slots = (*slots * 2).min(65_536),
            Self::Weight(number, weight) => {
                let new = member(number, weight);
                match members.iter_mut().find(|m| m.id == new.id) {
                    Some(present) => *present = new,
                    None => members.push(new),
                }
            }
            Self::Fail(from, count) => {
                let failed: Vec<BackendId> = (from..from + count).map(|n| member(n, 0).id).collect();
                members.retain(|m| !failed.contains(&m.id));
            }
        }
    }
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

    #[test]
    fn pure_schedulers_look_at_the_set_only(weights in weights(), seed in any::<u64>()) {
        let one = members(&weights);
        let mut other = one.clone();
        shuffle(&mut other, seed);
        let last = vec![member(7, 1).id; 256];
        for scheduler in [Scheduler::Maglev, Scheduler::Rendezvous] {
            let table = next(scheduler, None, &one, 256);
            prop_assert_eq!(&table, &next(scheduler, Some(&last), &other, 256));
        }
    }

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

    #[test]
    fn every_scheduler_knows_nobody_when_there_is_nobody(count in 0..5_usize, slots in slots()) {
        for scheduler in ALL {
            prop_assert_eq!(next(scheduler, None, &members(&vec![0; count]), slots), None);
        }
    }
}

fn shuffle(members: &mut [Member], seed: u64) {
    let mut state = seed;
    for i in (1..members.len()).rev() {
        state = lb_common::hash::mix(state, 7);
        members.swap(i, (state % (i as u64 + 1)) as usize);
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

/// Tables must not differ between releases or machines: what they are is written down here, as a checksum.
#[test]
fn tables_are_what_they_have_always_been() {
    let weights: Vec<u16> = (0..100).map(|n| n % 7).collect();
    let members = members(&weights);
    let checksum = |table: &[u16]| {
        table
            .iter()
            .fold(0, |sum, owner| lb_common::hash::mix(sum ^ u64::from(*owner), 1))
    };
    let canonical = maglev(&members, 16_384).unwrap();
    let mut changed = members.clone();
    changed[5].weight = 0;
    changed[8].weight = 70;
    let ids: Vec<BackendId> = members.iter().map(|m| m.id).collect();
    let last = Last {
        owners: &canonical,
        ids: &ids,
    };
    let next = consistent(Some(&last), &changed, 32_768).unwrap();
    let race = rendezvous(&members, 16_384).unwrap();
    let sums = [&canonical, &next, &race].map(|table| checksum(table));
    let always = [
        0xa647_e182_3765_85a4,
        0xf359_7d54_5b72_5b03,
        0x3ba6_e5d9_e632_bb34,
    ];
    assert_eq!(sums, always, "{sums:#x?}");
}
