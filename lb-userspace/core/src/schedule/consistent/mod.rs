//! Minimal moves: the next table keeps all of the last one that the members' shares allow.
//!
//! What must hold: every member has its weighted share, rounded down or up, and no table of which that is true differs
//! from the last one in fewer slots.
//!
//! Why that is so. Let member `m` hold `h(m)` slots of the last table, and let it be due `f(m)` slots, its share rounded
//! down, or `f(m) + 1` where the share is no whole number. A table in which it has `c(m)` slots leaves at most
//! `min(h(m), c(m))` of its slots where they were, so that at least `slots - Σ min(h, c)` slots change hands; and
//! exactly that many do when only members with `h > c` give up slots, `h - c` each, and only members with `h < c` take
//! some. This is what happens below. It remains to choose who gets the `e = slots - Σ f` slots that rounding down leaves
//! over: `min(h, f + 1)` is `min(h, f)`, and one more if `h > f`. So the sum is largest when as many as possible of
//! these slots go to members with `h > f`, and they are served first. Slots of members that are gone, or have no weight
//! any more, change hands in every table.

mod history;
mod homeward;
mod packed;
#[cfg(test)]
mod tests;

pub use history::History;
pub use homeward::homeward;

use std::{cell::LazyCell, collections::HashMap};

use super::{Last, Member, maglev::maglev, quotas::quotas};
use crate::desired::BackendId;

/// The number that means no owner.
const FREE: u16 = u16::MAX;

/// The owner of each slot as an index into `members`; `None` when no member has any weight. Without a last table, or
/// with one of which nothing is left, it is [`maglev()`]'s: a canonical function of the set.
///
/// The order of `members` and of the last table's names makes no difference. A last table that is longer than `slots` is
/// cut off.
pub(super) fn consistent(last: Option<&Last<'_>>, members: &[Member], slots: u32) -> Option<Vec<u16>> {
    let Some(mut draft) = last.and_then(|last| Draft::of(last, members, slots)) else {
        return maglev(members, slots);
    };
    let quotas = quotas(members, slots, |member, floor| draft.held[member] > floor)?;
    draft.give_up(&quotas);
    draft.fill(members, &quotas);
    Some(draft.owners)
}

/// The fewest slots that change hands from the last table to any in which every member has its share, rounded down or up;
/// all where nobody has any weight or nothing is left of the last table.
pub fn fewest_moves(last: &Last<'_>, members: &[Member], slots: u32) -> u32 {
    let Some(draft) = Draft::of(last, members, slots) else {
        return slots;
    };
    let preferred = |member: usize, floor| draft.held[member] > floor;
    let Some(quotas) = quotas(members, slots, preferred) else {
        return slots;
    };
    let kept = draft
        .held
        .iter()
        .zip(&quotas)
        .map(|(held, quota)| held.min(quota));
    slots - kept.sum::<u32>()
}

/// A table on its way from the last one to the next.
struct Draft {
    /// Indices into the members, or [`FREE`].
    owners: Vec<u16>,
    /// How many slots each member has.
    held: Vec<u32>,
    /// The slots that nobody has.
    free: Vec<u32>,
}

impl Draft {
    /// What is left of the last table; `None` when that is nothing.
    fn of(last: &Last<'_>, members: &[Member], slots: u32) -> Option<Self> {
        let size = slots as usize;
        let heirs = heirs(last.ids, members);
        let heir = |owner: &u16| heirs.get(usize::from(*owner)).copied().unwrap_or(FREE);
        let mut owners = Vec::with_capacity(size);
        owners.extend(last.owners.iter().take(size).map(heir));
        while !owners.is_empty() && owners.len() < size {
            owners.extend_from_within(..owners.len().min(size - owners.len()));
        }
        let mut draft = Self {
            held: vec![0; members.len()],
            free: Vec::new(),
            owners,
        };
        for (slot, owner) in (0..slots).zip(&draft.owners) {
            match draft.held.get_mut(usize::from(*owner)) {
                Some(held) => *held += 1,
                None => draft.free.push(slot),
            }
        }
        (draft.free.len() < draft.owners.len()).then_some(draft)
    }

    /// Members that have more than their quota give up as much, scattered over the table.
    fn give_up(&mut self, quotas: &[u32]) {
        let surplus = self.held.iter().zip(quotas);
        let mut surplus: Vec<u32> = surplus.map(|(held, quota)| held.saturating_sub(*quota)).collect();
        let mut left: u32 = surplus.iter().sum();
        let slots = self.owners.len() as u32;
        for slot in (0..slots).map(|i| scattered(i, slots)) {
            if left == 0 {
                return;
            }
            let owner = &mut self.owners[slot as usize];
            if let Some(surplus) = surplus.get_mut(usize::from(*owner)).filter(|n| **n > 0) {
                *surplus -= 1;
                left -= 1;
                *owner = FREE;
                self.free.push(slot);
            }
        }
    }

    /// Members that have less than their quota take free slots in turn.
    fn fill(&mut self, members: &[Member], quotas: &[u32]) {
        struct Due {
            id: BackendId,
            member: u16,
            slots: u32,
        }
        let mut due = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let slots = quotas[index].saturating_sub(self.held[index]);
            if slots > 0 {
                let (id, member) = (member.id, index as u16);
                due.push(Due { id, member, slots });
            }
        }
        due.sort_unstable_by_key(|due| due.id);
        let mut turn = 0;
        for slot in self.free.drain(..) {
            let Some(next) = due.get_mut(turn) else { return };
            self.owners[slot as usize] = next.member;
            next.slots -= 1;
            if next.slots == 0 {
                due.swap_remove(turn);
            } else {
                turn += 1;
            }
            if turn >= due.len() {
                turn = 0;
            }
        }
    }
}

/// For each name of the last table the index of the member that bears it and has weight, or else [`FREE`].
fn heirs(ids: &[BackendId], members: &[Member]) -> Vec<u16> {
    // A failure leaves the members as they were declared: each is found where it stood.
    let by_id = LazyCell::new(|| -> HashMap<BackendId, usize> {
        members.iter().enumerate().map(|(i, m)| (m.id, i)).collect()
    });
    let heir = |(at, id): (usize, &BackendId)| {
        let in_place = members.get(at).is_some_and(|m| m.id == *id).then_some(at);
        let index = in_place.or_else(|| by_id.get(id).copied())?;
        (members[index].weight > 0).then_some(index as u16)
    };
    ids.iter()
        .enumerate()
        .map(|entry| heir(entry).unwrap_or(FREE))
        .collect()
}

/// A permutation of the numbers below `slots`, a power of two: products with odd numbers and a shifted exclusive or can
/// each be undone.
fn scattered(i: u32, slots: u32) -> u32 {
    let mask = slots - 1;
    let x = i.wrapping_mul(0x9E37_79B1) & mask;
    let x = x ^ (x >> (slots.ilog2() / 2).max(1));
    x.wrapping_mul(0x85EB_CA6B) & mask
}
