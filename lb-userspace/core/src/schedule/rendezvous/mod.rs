//! Weighted rendezvous hashing (Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1998), as a race.
//!
//! Each member throws darts at the table: its dart number `k` flies at a time between `k/weight` and `(k+1)/weight`, and
//! hits a slot that a hash of the member and `k` chooses. A slot belongs to the member whose dart hits it first.
//!
//! What must hold: when a dart flies and where it hits depends on its member alone. So the first hit of a member on a
//! slot is a score of the two of them, as rendezvous hashing wants it: a member that goes leaves only its own slots, one
//! that comes takes only what is its own, and another weight moves slots from or to that member only. Slots are hit at
//! random at a steady rate, which makes the scores exponentially distributed (to within 1/slots), as
//! Schindelhauer and Schomaker's weights ask for (SPAA 2005, `-ln(u)/weight`); no logarithm is needed for that.
//!
//! Scores of every member for every slot need not be worked out either: the race is over when the last slot is hit,
//! after about `slots * ln(slots)` darts of all members together.
//!
//! Times are floating-point numbers, but only sums, products and quotients are made of them, which IEEE 754 defines to
//! the last bit: every machine sees the same race.

#[cfg(test)]
mod tests;

use super::{Member, digest::digest};
use crate::desired::BackendId;

const FREE: u16 = u16::MAX;

/// The owner of each slot as an index into `members`; `None` when no member has any weight.
pub(super) fn rendezvous(members: &[Member], slots: u32) -> Option<Vec<u16>> {
    let mut throwers: Vec<Thrower> = (0_u16..)
        .zip(members)
        .filter(|(_, member)| member.weight > 0)
        .map(|(index, member)| Thrower::new(index, member))
        .collect();
    // Darts that hit the same slot at the same time, should that ever happen, are told apart by name.
    throwers.sort_unstable_by_key(|thrower| thrower.id);
    let weights: f64 = throwers.iter().map(|thrower| thrower.weight).sum();
    let mut owners = vec![FREE; slots as usize];
    let mut times = vec![f64::INFINITY; slots as usize];
    let mut free = if throwers.is_empty() { return None } else { slots };
    // Members throw one after the other, and so the race is run in stretches: when no slot is left at the end of one,
    // later darts change nothing. A stretch has about as many darts as there are slots.
    let stretch = f64::from(slots) / weights;
    let mut end = 0.0;
    while free > 0 {
        end += stretch;
        for thrower in &mut throwers {
            while thrower.dart.time < end {
                let slot = (thrower.dart.hash >> 32) as usize & (slots as usize - 1);
                if thrower.dart.time < times[slot] {
                    free -= u32::from(owners[slot] == FREE);
                    times[slot] = thrower.dart.time;
                    owners[slot] = thrower.member;
                }
                thrower.next();
            }
        }
    }
    Some(owners)
}

/// A member in the race.
struct Thrower {
    id: BackendId,
    member: u16,
    weight: f64,
    seed: u64,
    /// How many darts have been thrown.
    thrown: u32,
    /// The next one.
    dart: Dart,
}

struct Dart {
    time: f64,
    hash: u64,
}

impl Thrower {
    fn new(index: u16, member: &Member) -> Self {
        let mut thrower = Self {
            id: member.id,
            member: index,
            weight: f64::from(member.weight),
            seed: digest(member.id, 0x6461_7274),
            thrown: 0,
            dart: Dart { time: 0.0, hash: 0 },
        };
        thrower.dart = thrower.dart();
        thrower
    }

    fn next(&mut self) {
        self.thrown += 1;
        self.dart = self.dart();
    }

    fn dart(&self) -> Dart {
        let hash = splitmix(self.seed, self.thrown);
        let within = f64::from(hash as u32) / (f64::from(u32::MAX) + 1.0);
        let time = (f64::from(self.thrown) + within) / self.weight;
        Dart { time, hash }
    }
}

/// The `k`th number of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn splitmix(seed: u64, k: u32) -> u64 {
    let x = seed.wrapping_add(u64::from(k).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
