//! Consistent hashing (Karger et al., "Consistent Hashing and Random Trees", STOC 1997), with virtual nodes by weight.
//!
//! Each member has virtual nodes on a ring, at places that hashes of its name choose. Each slot has a point on the ring, and
//! belongs to the member whose node is the next one clockwise.
//!
//! What must hold: where a node lies depends on its member alone. So a member that goes leaves only its own slots, one that
//! comes takes only what is its own, and another weight adds or removes the last nodes of that member only. This is so as
//! long as a unit of weight stands for the same number of nodes, see [`nodes_of()`].
//!
//! The ring has 2³² places. The point of a slot is its number with the bits reversed, as a fraction of the ring. Points
//! are then evenly spaced, which a hash would not make them; packets are hashed to slots already. And a point does not
//! depend on the size of the table: when that doubles, each old slot keeps its point and its owner, and each new slot
//! lies right behind the one whose packets it takes, so that most have the same next node.

#[cfg(test)]
mod tests;

use super::{Member, digest::digest};

/// Virtual nodes for a weight of 1: the usual deviation from a share is then 9 % (one part in the square root of 128), and
/// the worst of a hundred members some 30 %.
const NODES: u64 = 128;
/// Most virtual nodes of all members together, but for rounding: more take longer than a change may.
const MOST_NODES: u64 = 1 << 21;

/// The owner of each slot as an index into `members`; `None` when no member has any weight.
pub(super) fn hash_ring(members: &[Member], slots: u32) -> Option<Vec<u16>> {
    let sum: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    if sum == 0 {
        return None;
    }
    // Only the next node clockwise of each point counts. Points are evenly spaced: which one is before a node can be told
    // from its place, and the nodes need not be sorted.
    let mut nearest: Vec<Option<Node>> = vec![None; slots as usize];
    let spacing = (1_u64 << 32) / u64::from(slots);
    // Of nodes at the same place the first one stays: that of the member that comes first by name.
    let mut by_name: Vec<(u16, &Member)> = (0_u16..).zip(members).collect();
    by_name.sort_unstable_by_key(|(_, member)| member.id);
    for (index, member) in by_name {
        let seed = digest(member.id, 0x7269_6e67);
        for number in 0..nodes_of(member.weight, sum) {
            let place = (lb_common::hash::mix(number, seed) >> 32) as u32;
            let behind = &mut nearest[(u64::from(place) / spacing) as usize];
            if behind.is_none_or(|other| place < other.place) {
                *behind = Some(Node { place, member: index });
            }
        }
    }
    Some(owners(&nearest))
}

/// A virtual node.
#[derive(Clone, Copy)]
struct Node {
    place: u32,
    member: u16,
}

/// How many virtual nodes a member of that weight has, where `sum` is the sum of all weights. A unit of weight stands for
/// [`NODES`] of them; or for a half, a quarter and so on, if that would make more than [`MOST_NODES`] on the whole ring.
fn nodes_of(weight: u16, sum: u64) -> u64 {
    let units = sum.div_ceil(MOST_NODES / NODES).next_power_of_two();
    (u64::from(weight) * NODES).div_ceil(units)
}

/// The owners of slots, given the nearest node after each point up to the next point, point by point clockwise.
fn owners(nearest: &[Option<Node>]) -> Vec<u16> {
    let bits = nearest.len().ilog2();
    let mut owners = vec![0; nearest.len()];
    // What lies behind the last point is found by going on from the first one.
    let mut next = nearest.iter().flatten().next().map_or(0, |node| node.member);
    for (point, node) in nearest.iter().enumerate().rev() {
        next = node.map_or(next, |node| node.member);
        owners[reversed(point as u32, bits)] = next;
    }
    owners
}

/// The lowest bits of a number in the opposite order.
fn reversed(number: u32, bits: u32) -> usize {
    number.reverse_bits().checked_shr(u32::BITS - bits).unwrap_or(0) as usize
}
