//! `hash-ring` is what the paper says, moves what must move only, and grows nearly in place.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::desired::{BackendId, Scheduler};
use crate::schedule::tests::{Step, checksum, counts, members, next, slots, step, weights};

/// The paper's words: the nodes sorted, and the next one clockwise looked for.
fn by_search(members: &[Member], slots: u32) -> Option<Vec<BackendId>> {
    let sum: u64 = members.iter().map(|m| u64::from(m.weight)).sum();
    let nodes = |m: &Member| {
        let (id, seed) = (m.id, digest(m.id, 0x7269_6e67));
        let place = move |n| (lb_common::hash::mix(n, seed) >> 32) as u32;
        (0..nodes_of(m.weight, sum.max(1))).map(move |n| (place(n), id))
    };
    let mut ring: Vec<(u32, BackendId)> = members.iter().flat_map(nodes).collect();
    ring.sort_unstable();
    let owner = |slot: u32| {
        let after = ring.partition_point(|(place, _)| *place < slot.reverse_bits());
        ring.get(after).or(ring.first()).map(|(_, id)| *id)
    };
    (0..slots).map(owner).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_slot_belongs_to_the_next_node_clockwise(weights in vec(0..=20_u16, 0..40), slots in slots()) {
        let members = members(&weights);
        prop_assert_eq!(next(Scheduler::HashRing, None, &members, slots), by_search(&members, slots));
    }

    #[test]
    fn slots_move_from_and_to_changed_members_only(
        weights in vec(0..=100_u16, 0..100), slots in slots(), steps in vec(step(), 1..10),
    ) {
        let mut members = members(&weights);
        for step in steps.iter().filter(|step| !matches!(step, Step::Grow | Step::Weight(_, 101..))) {
            let before = members.clone();
            step.change(&mut members, &mut 0);
            let (Some(old), Some(new)) = (
                next(Scheduler::HashRing, None, &before, slots),
                next(Scheduler::HashRing, None, &members, slots),
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
    fn old_slots_stay_when_the_table_doubles(weights in weights(), slots in slots()) {
        let members = members(&weights);
        let (Some(old), Some(new)) = (
            next(Scheduler::HashRing, None, &members, slots),
            next(Scheduler::HashRing, None, &members, slots * 2),
        ) else {
            return Ok(());
        };
        prop_assert_eq!(&old[..], &new[..slots as usize]);
    }
}

#[test]
fn the_ring_has_room_for_any_weights() {
    assert_eq!(nodes_of(1, 1), 128);
    assert_eq!(nodes_of(10, 16_384), 1280);
    assert_eq!(nodes_of(10, 16_385), 640);
    let most = (32_766_u64, u16::MAX);
    let all = most.0 * nodes_of(most.1, most.0 * u64::from(most.1));
    assert!((MOST_NODES / 2..=MOST_NODES + most.0).contains(&all), "{all}");
    assert_eq!(nodes_of(1, most.0 * u64::from(most.1)), 1);
}

#[test]
fn shares_are_within_a_third_of_what_the_weights_say() {
    for (weights, slots, most) in [
        (&[1; 3][..], 16_384, 0.08),
        (&[1; 16], 16_384, 0.16),
        (&[1; 100], 65_536, 0.3),
        (&[10; 100], 65_536, 0.11),
        (&[1, 10], 16_384, 0.07),
    ] {
        let members = members(weights);
        let counts = counts(&next(Scheduler::HashRing, None, &members, slots).unwrap());
        let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        for member in &members {
            let share = f64::from(member.weight) / sum * f64::from(slots);
            let ratio = f64::from(counts[&member.id]) / share;
            assert!(
                (ratio - 1.0).abs() < most,
                "{ratio} of a share among {}",
                members.len()
            );
        }
    }
}

/// Tables must not differ between releases or machines.
#[test]
fn tables_are_what_they_have_always_been() {
    let weights: Vec<u16> = (0..100).map(|n| n % 7).collect();
    let table = hash_ring(&members(&weights), 16_384).unwrap();
    assert_eq!(checksum(&table), 0x6f09_7577_b8e8_7fe7, "{:#x}", checksum(&table));
}
