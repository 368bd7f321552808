//! How many slots each member is due. What must hold: the exact weighted share, rounded down or up.

use std::cmp::Reverse;

use super::Member;
use crate::desired::BackendId;

/// Each member's number of slots; `None` when no member has any weight. All get their share rounded down. What is left
/// goes, a slot each, to members whose share is no whole number: first to those that are most `preferred` (asked with
/// the member's index and its share rounded down), then to the largest remainders (Hamilton's method). Ties go by name.
pub(super) fn quotas<P: Ord>(
    members: &[Member],
    slots: u32,
    preferred: impl Fn(usize, u32) -> P,
) -> Option<Vec<u32>> {
    let sum: u64 = members.iter().map(|m| u64::from(m.weight)).sum();
    if sum == 0 {
        return None;
    }
    let mut quotas = Vec::with_capacity(members.len());
    let mut claims: Vec<(Reverse<P>, Reverse<u64>, BackendId, usize)> = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let share = u64::from(member.weight) * u64::from(slots);
        let floor = (share / sum) as u32;
        quotas.push(floor);
        let remainder = share % sum;
        if remainder > 0 {
            let preferred = Reverse(preferred(index, floor));
            claims.push((preferred, Reverse(remainder), member.id, index));
        }
    }
    // Fewer than there are claims, for it is the sum of their fractions.
    let left = (slots - quotas.iter().sum::<u32>()) as usize;
    if left > 0 {
        let (first, last, _) = claims.select_nth_unstable(left - 1);
        for (.., index) in first.iter().chain([&*last]) {
            quotas[*index] += 1;
        }
    }
    Some(quotas)
}
