//! The schedulers that there are, a line each.
//!
//! Invariant: [`schedulers!`] is the only list. From its lines come the words, here, and the modules and the dispatch, in
//! `schedule`. Both take the list from here, so that `schedule` knows of `desired`, and `desired` of nothing above it.

use std::{fmt, str::FromStr};

use serde::Serialize;

use super::{
    Invalid,
    words::{read_words, words},
};

/// The registry of schedulers: a scheduler is a folder `schedule/<module>` with one function of that name, and a line here.
///
/// A line gives a sentence on what the scheduler is, its variant and its word, its module, what its function is given, and
/// how its slots are shared out. The documentation is held to these lines, and tests that concern all schedulers run
/// for each line. The first line is the default.
macro_rules! schedulers {
    ($with:ident) => {
        $with! {
            /// Starts from the last table and moves as few slots as it can.
            Consistent "consistent" consistent (last, members, slots) Exact;
            /// Weighted Maglev hashing (Eisenbud et al., NSDI 2016).
            Maglev "maglev" maglev (members, slots) Exact;
            /// Weighted rendezvous hashing (Thaler and Ravishankar, 1998; Schindelhauer and Schomaker, 2005).
            Rendezvous "rendezvous" rendezvous (members, slots) OnAverage;
            /// Consistent hashing on a ring (Karger et al., STOC 1997), with virtual nodes in proportion to the weights.
            HashRing "hash-ring" hash_ring (members, slots) OnAverage;
        }
    };
}
pub(crate) use schedulers;

macro_rules! words_and_facts {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident $word:literal $module:ident ($($given:ident),+) $shares:ident;
    )+) => {
        /// How a new flow gets its backend.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum Scheduler {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
        }

        words! { Scheduler { $($variant => $word),+ } }
        read_words! { Scheduler: Self::WORDS }

        impl Scheduler {
            /// Every scheduler, the default first.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What it is, in a sentence for operators.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }

            /// How close each backend's number of slots comes to its share.
            pub const fn shares(self) -> Shares {
                match self { $(Self::$variant => Shares::$shares),+ }
            }
        }
    };
}

schedulers!(words_and_facts);

impl Default for Scheduler {
    fn default() -> Self {
        Self::ALL[0]
    }
}

/// How close each backend's number of slots comes to its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// To within one slot.
    Exact,
    /// On average over many sets of backends.
    OnAverage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_the_same_everywhere() {
        assert_eq!(Scheduler::ALL.len(), Scheduler::WORDS.len());
        for (scheduler, word) in Scheduler::ALL.iter().zip(Scheduler::WORDS) {
            assert_eq!(scheduler.to_string(), *word);
            assert_eq!(word.parse(), Ok(*scheduler));
            assert_eq!(serde_json::to_value(scheduler).unwrap(), *word);
            assert_eq!(
                serde_json::from_value::<Scheduler>((*word).into()).unwrap(),
                *scheduler
            );
        }
    }

    #[test]
    fn every_scheduler_says_what_it_is() {
        for scheduler in Scheduler::ALL {
            let meaning = scheduler.meaning();
            assert!(meaning.ends_with('.'), "{scheduler}: {meaning:?}");
        }
    }

    #[test]
    fn files_that_name_no_scheduler_keep_theirs() {
        assert_eq!(Scheduler::default(), Scheduler::Consistent);
    }
}
