//! Weighted Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016).
//!
//! Each member walks the slots in an order of its own and takes the next free one when it is its turn. Two changes to
//! the paper: the table's size is a power of two and the step odd (so that a walk still meets every slot), and each
//! member's number of slots is fixed beforehand by its weight, to within one slot.

#[cfg(test)]
mod tests;

use super::{Member, digest::digest, quotas::quotas};
use crate::desired::BackendId;

/// The owner of each slot as an index into `members`; `None` when no member has any weight.
pub(super) fn maglev(members: &[Member], slots: u32) -> Option<Vec<u16>> {
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
