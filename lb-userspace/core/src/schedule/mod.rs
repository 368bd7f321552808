//! Schedulers: how a service's slots are shared among its backends.
//!
//! Invariant: a scheduler is a pure function. The same members, and with `consistent` the same last table, give the
//! same table on every balancer, in whatever order they were added.

mod digest;
mod quotas;
#[cfg(test)]
mod tests;

pub use consistent::{History, fewest_moves, homeward};

use crate::desired::{BackendId, Scheduler, Service, schedulers};

/// A backend that takes part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Who.
    pub id: BackendId,
    /// Its weight; members of weight 0 own no slot.
    pub weight: u16,
}

macro_rules! modules_and_dispatch {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident $word:literal $module:ident ($($given:ident),+) $shares:ident;
    )+) => {
        $(mod $module;)+

        impl Given<'_> {
            fn owners(self, scheduler: Scheduler) -> Option<Vec<u16>> {
                match scheduler {
                    $(Scheduler::$variant => $module::$module($(self.$given),+),)+
                }
            }
        }
    };
}

schedulers!(modules_and_dispatch);

/// What a scheduler may be given; [`schedulers!`] says what each one is.
struct Given<'a> {
    last: Option<&'a Last<'a>>,
    members: &'a [Member],
    slots: u32,
}

/// Which member owns each slot, as an index into the members; `None` when no member has any weight.
/// `last` is the table in use, if there is one; only `consistent` looks at it. `slots` is a power of two.
pub fn schedule(
    scheduler: Scheduler,
    last: Option<&Last<'_>>,
    members: &[Member],
    slots: u32,
) -> Option<Vec<u16>> {
    let given = Given { last, members, slots };
    given.owners(scheduler)
}

/// A table in use.
#[derive(Clone, Copy, Debug)]
pub struct Last<'a> {
    /// Its owner of each slot, as an index into `ids`; one that is out of range means nobody. Its length is a power of
    /// two, and may be less than that of the next table: slot `i` of the larger one then belongs to the owner of slot
    /// `i % len`, since slots are chosen by the low bits of a hash.
    pub owners: &'a [u16],
    /// The backends that the owners stand for.
    pub ids: &'a [BackendId],
}

/// Slots a backend gets at least, where the table's limit allows.
const SLOTS_PER_BACKEND: u64 = 100;
/// A table below this saves no memory worth having.
const FEWEST_SLOTS: u64 = 256;
/// How many times larger than equal weights would need a table may become for the sake of light backends.
const MOST_FOR_WEIGHTS: u64 = 4;

/// Size of a service's table: a power of two with about 100 to 200 slots a backend, counting all backends that are
/// declared, so that a failure does not change the size. Light backends among heavy ones make it up to four times
/// as large, so that theirs is a fair share too.
pub fn table_size(weights: impl IntoIterator<Item = u16>) -> u32 {
    let (mut count, mut sum, mut least) = (0_u64, 0_u64, u64::MAX);
    for weight in weights.into_iter().filter(|w| *w > 0).map(u64::from) {
        count += 1;
        sum += weight;
        least = least.min(weight);
    }
    let equal = (count * SLOTS_PER_BACKEND).next_power_of_two().max(FEWEST_SLOTS);
    let weighted = if count == 0 {
        0
    } else {
        (SLOTS_PER_BACKEND * sum).div_ceil(least).next_power_of_two()
    };
    let size = weighted
        .clamp(equal, equal * MOST_FOR_WEIGHTS)
        .min(u64::from(Service::MAX_SLOTS));
    size as u32
}
