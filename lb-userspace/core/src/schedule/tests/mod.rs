//! What all schedulers must be: fair, steady and the same everywhere; and what their own tests are made of.
//!
//! Invariant: a test here runs for every line of `schedulers!`. What is one scheduler's own is tested in its folder.

use std::{collections::HashMap, net::IpAddr};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::desired::Shares;

/// Members by number, so that sets can overlap.
pub(super) fn member(number: u32, weight: u16) -> Member {
    let [_, a, b, c] = number.to_be_bytes();
    let id = BackendId {
        address: IpAddr::from([10, a, b, c]),
        port: None,
    };
    Member { id, weight }
}

pub(super) fn members(weights: &[u16]) -> Vec<Member> {
    (0..).zip(weights).map(|(n, weight)| member(n, *weight)).collect()
}

/// A table by names, as packets see it.
pub(super) fn named(owners: &[u16], members: &[Member]) -> Vec<BackendId> {
    owners
        .iter()
        .map(|owner| members[usize::from(*owner)].id)
        .collect()
}

pub(super) fn counts(table: &[BackendId]) -> HashMap<BackendId, u32> {
    let mut counts = HashMap::new();
    for id in table {
        *counts.entry(*id).or_default() += 1;
    }
    counts
}

pub(super) fn moved(old: &[BackendId], new: &[BackendId]) -> usize {
    old.iter().zip(new).filter(|(old, new)| old != new).count()
}

/// Names in any order, and a table of indices into them.
pub(super) fn by_index(table: &[BackendId]) -> (Vec<BackendId>, Vec<u16>) {
    let ids: Vec<BackendId> = counts(table).into_keys().collect();
    let at: HashMap<BackendId, u16> = ids.iter().copied().zip(0..).collect();
    let owners = table.iter().map(|id| at[id]).collect();
    (ids, owners)
}

/// The next table after `last`, by names.
pub(super) fn next(
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

/// Whether every member has its share, rounded down or up.
pub(super) fn check_shares(table: &[BackendId], members: &[Member]) -> Result<(), TestCaseError> {
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
pub(super) fn weight() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(1), 2 => 1..=20_u16, 1 => select(&[0, 1, 65_535]), 1 => any::<u16>()]
}

/// From one backend to a thousand.
pub(super) fn weights() -> impl Strategy<Value = Vec<u16>> {
    prop_oneof![8 => vec(weight(), 1..40), 1 => vec(weight(), 900..=1000)]
}

pub(super) fn slots() -> impl Strategy<Value = u32> {
    select(&[64, 256, 4096])
}

/// One change of a set.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The member of that number gets that weight; 0 is a failure or a removal.
    Weight(u32, u16),
    /// Many at once, as when a rack fails.
    Fail(u32, u32),
    /// The table grows to twice its size.
    Grow,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..40_u32, weight()).prop_map(|(n, w)| Step::Weight(n, w)),
        1 => (0..40_u32, 1..20_u32).prop_map(|(from, n)| Step::Fail(from, n)),
        1 => Just(Step::Grow),
    ]
}

impl Step {
    pub(super) fn change(&self, members: &mut Vec<Member>, slots: &mut u32) {
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

pub(super) fn shuffle(members: &mut [Member], seed: u64) {
    let mut state = seed;
    for i in (1..members.len()).rev() {
        state = lb_common::hash::mix(state, 7);
        members.swap(i, (state % (i as u64 + 1)) as usize);
    }
}

/// What a table is, in a number.
pub(super) fn checksum(table: &[u16]) -> u64 {
    let mix = |sum, owner: &u16| lb_common::hash::mix(sum ^ u64::from(*owner), 1);
    table.iter().fold(0, mix)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_scheduler_knows_nobody_when_there_is_nobody(count in 0..5_usize, slots in slots()) {
        for &scheduler in Scheduler::ALL {
            prop_assert_eq!(next(scheduler, None, &members(&vec![0; count]), slots), None);
        }
    }

    #[test]
    fn a_first_table_depends_on_the_set_of_members_with_weight_only(
        weights in weights(), slots in slots(), seed in any::<u64>(),
    ) {
        let one = members(&weights);
        let mut other = one.clone();
        shuffle(&mut other, seed);
        other.retain(|m| m.weight > 0);
        for &scheduler in Scheduler::ALL {
            prop_assert_eq!(next(scheduler, None, &one, slots), next(scheduler, None, &other, slots));
        }
    }

    #[test]
    fn only_consistent_looks_at_the_last_table(weights in weights(), seed in any::<u64>()) {
        let one = members(&weights);
        let mut other = one.clone();
        shuffle(&mut other, seed);
        let last = vec![member(7, 1).id; 256];
        for &scheduler in Scheduler::ALL.iter().filter(|s| **s != Scheduler::Consistent) {
            let table = next(scheduler, None, &one, 256);
            prop_assert_eq!(&table, &next(scheduler, Some(&last), &other, 256));
        }
    }

    #[test]
    fn sizes_are_powers_of_two_with_enough_slots(weights in vec(any::<u16>(), 0..400)) {
        let size = table_size(weights.iter().copied());
        prop_assert!(size.is_power_of_two() && (256..=65_536).contains(&size));
        let count = weights.iter().filter(|w| **w > 0).count() as u32;
        prop_assert!(size >= (count * 100).min(65_536));
    }

    #[test]
    fn exact_shares_are_exact_and_members_without_weight_have_none(weights in weights(), slots in slots()) {
        let members = members(&weights);
        for &scheduler in Scheduler::ALL {
            let Some(table) = next(scheduler, None, &members, slots) else {
                prop_assert!(weights.iter().all(|weight| *weight == 0));
                continue;
            };
            let counts = counts(&table);
            let idle = members.iter().filter(|m| m.weight == 0);
            prop_assert_eq!(idle.filter(|m| counts.contains_key(&m.id)).count(), 0);
            if scheduler.shares() == Shares::Exact {
                check_shares(&table, &members)?;
            }
        }
    }
}

#[test]
fn shares_are_right_on_average() {
    let weights = [1, 1, 1, 1, 2, 2, 5, 10];
    let sum: u16 = weights.iter().sum();
    let sets: u32 = 100;
    for &scheduler in Scheduler::ALL {
        let mut owned = [0; 8];
        for set in 0..sets {
            let members: Vec<Member> = (set * 8..).zip(weights).map(|(n, w)| member(n, w)).collect();
            let table = schedule(scheduler, None, &members, 1024).unwrap();
            for owner in table {
                owned[usize::from(owner)] += 1;
            }
        }
        for (owned, weight) in owned.into_iter().zip(weights) {
            let share = f64::from(sets * 1024) * f64::from(weight) / f64::from(sum);
            let ratio = f64::from(owned) / share;
            assert!(
                (0.9..1.1).contains(&ratio),
                "{scheduler}: {owned} slots for a share of {share}"
            );
        }
    }
}

#[test]
fn one_of_a_hundred_that_goes_moves_at_most_two_percent() {
    let all = members(&[1; 100]);
    for &scheduler in Scheduler::ALL {
        let before = next(scheduler, None, &all, 65_536).unwrap();
        for gone in [0, 1, 37, 50, 98, 99] {
            let mut rest = all.clone();
            rest.remove(gone);
            let after = next(scheduler, Some(&before), &rest, 65_536).unwrap();
            let share = moved(&before, &after) as f64 / 65_536.0;
            assert!(share <= 0.02, "{scheduler}: removing member {gone} moves {share}");
        }
    }
}
