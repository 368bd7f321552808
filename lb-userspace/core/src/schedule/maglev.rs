//! Weighted Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016).
//!
//! Each member walks the slots in an order of its own and takes the next free one when it is its turn. Two changes to
//! the paper: the table's size is a power of two and the step odd (so that a walk still meets every slot), and each
//! member's number of slots is fixed beforehand by its weight, to within one slot.

use super::{Member, digest::digest, quotas::quotas};
use crate::desired::BackendId;

/// The owner of each slot as an index into `members`; `None` when no member has any weight.
pub fn maglev(members: &[Member], slots: u32) -> Option<Vec<u16>> {
    let mut walkers = walkers(members, slots)?;
    const FREE: u16 = u16::MAX;
    let mask = slots - 1;
    let mut table = vec![FREE; slots as usize];
    let mut left = slots;
    // Rounds: in each, a member takes slots in proportion to its quota, so that heavy ones are done when light ones
    // are. Credits are in units of the largest quota.
    let largest = u64::from(walkers.iter().map(|w| w.quota).max()?);
    while left > 0 {
        for walker in &mut walkers {
            walker.credit += u64::from(walker.quota);
            while walker.credit >= largest && walker.taken < walker.quota {
                walker.credit -= largest;
                while table[walker.position as usize] != FREE {
                    walker.position = (walker.position + walker.step) & mask;
                }
                table[walker.position as usize] = walker.member;
                walker.taken += 1;
                left -= 1;
            }
        }
    }
    Some(table)
}

/// A member on its way through the slots.
struct Walker {
    member: u16,
    quota: u32,
    taken: u32,
    credit: u64,
    position: u32,
    step: u32,
}

/// The members that own slots, in an order that depends on who they are only.
fn walkers(members: &[Member], slots: u32) -> Option<Vec<Walker>> {
    let quotas = quotas(members, slots, |_, _| false)?;
    let mut walkers: Vec<(BackendId, Walker)> = Vec::with_capacity(members.len());
    for (index, (member, quota)) in members.iter().zip(quotas).enumerate() {
        if quota == 0 {
            continue;
        }
        let position = digest(member.id, 0x6f66_6673_6574) as u32 & (slots - 1);
        let step = digest(member.id, 0x736b_6970) as u32 & (slots - 1) | 1;
        let walker = Walker {
            member: index as u16,
            quota,
            taken: 0,
            credit: 0,
            position,
            step,
        };
        walkers.push((member.id, walker));
    }
    walkers.sort_by_key(|(id, _)| *id);
    Some(walkers.into_iter().map(|(_, walker)| walker).collect())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn members(weights: &[u16]) -> Vec<Member> {
        let member = |(i, w): (usize, &u16)| Member {
            id: BackendId {
                address: IpAddr::from([10, 0, (i >> 8) as u8, i as u8]),
                port: None,
            },
            weight: *w,
        };
        weights.iter().enumerate().map(member).collect()
    }

    fn counts(table: &[u16], members: usize) -> Vec<u32> {
        let mut counts = vec![0; members];
        for owner in table {
            counts[usize::from(*owner)] += 1;
        }
        counts
    }

    fn moved(old: &[u16], old_members: &[Member], new: &[u16], new_members: &[Member]) -> usize {
        let name = |table: &[u16], members: &[Member], i: usize| members[usize::from(table[i])].id;
        (0..old.len())
            .filter(|i| name(old, old_members, *i) != name(new, new_members, *i))
            .count()
    }

    #[test]
    fn nobody_owns_anything_without_weight() {
        assert_eq!(maglev(&[], 256), None);
        assert_eq!(maglev(&members(&[0, 0]), 256), None);
    }

    #[test]
    fn one_to_ten_gives_one_to_ten() {
        let size = crate::schedule::table_size([1, 10]);
        let counts = counts(&maglev(&members(&[1, 10]), size).unwrap(), 2);
        let ratio = f64::from(counts[1]) / f64::from(counts[0]);
        assert!((9.9..10.1).contains(&ratio), "{counts:?}");
    }

    #[test]
    fn removing_one_of_a_hundred_moves_at_most_two_percent() {
        let all = members(&[1; 100]);
        let before = maglev(&all, 65_536).unwrap();
        for gone in [0, 1, 37, 50, 98, 99] {
            let mut rest = all.clone();
            rest.remove(gone);
            let after = maglev(&rest, 65_536).unwrap();
            let share = moved(&before, &all, &after, &rest) as f64 / 65_536.0;
            assert!(share <= 0.02, "removing member {gone} moves {share}");
        }
    }

    proptest! {
        #[test]
        fn every_member_is_within_one_slot_of_its_share(weights in proptest::collection::vec(0..=1000_u16, 1..200)) {
            let members = members(&weights);
            let size = crate::schedule::table_size(weights.iter().copied());
            let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            let Some(table) = maglev(&members, size) else {
                prop_assert_eq!(sum, 0.0);
                return Ok(());
            };
            for (count, weight) in counts(&table, members.len()).into_iter().zip(&weights) {
                let share = f64::from(*weight) / sum * f64::from(size);
                prop_assert!((f64::from(count) - share).abs() < 1.0, "{count} slots for a share of {share}");
            }
        }

        #[test]
        fn the_order_of_addition_does_not_matter(
            weights in proptest::collection::vec(1..=20_u16, 1..60), swaps in any::<u64>(),
        ) {
            let one = members(&weights);
            let mut other = one.clone();
            let mut state = swaps;
            for i in (1..other.len()).rev() {
                state = lb_common::hash::mix(state, 7);
                other.swap(i, (state % (i as u64 + 1)) as usize);
            }
            let (a, b) = (maglev(&one, 2048).unwrap(), maglev(&other, 2048).unwrap());
            prop_assert_eq!(moved(&a, &one, &b, &other), 0);
        }

        #[test]
        fn sizes_are_powers_of_two_with_enough_slots(weights in proptest::collection::vec(0..=u16::MAX, 0..400)) {
            let size = crate::schedule::table_size(weights.iter().copied());
            prop_assert!(size.is_power_of_two() && (256..=65_536).contains(&size));
            let count = weights.iter().filter(|w| **w > 0).count() as u32;
            prop_assert!(size >= (count * 100).min(65_536));
        }
    }
}
