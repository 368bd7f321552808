//! A service's words as flags of the tables, and back.
//!
//! Invariant: both directions of a word are read from one [`FlaggedWord`].

use lb_common::abi::ServiceFlags;

use crate::desired::{Affinity, OnEmpty, TrackingPolicy, Unserved};

/// The words of a service that its flags tell, each with no flag or one flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) struct FlaggedWords {
    pub(in crate::plan) affinity: Affinity,
    pub(in crate::plan) on_empty: OnEmpty,
    pub(in crate::plan) unserved: Unserved,
    /// [`TrackingPolicy::Never`] has no flag and reads back as [`TrackingPolicy::Changes`]: packets do not tell them apart.
    pub(in crate::plan) tracking: TrackingPolicy,
}

const AFFINITY: &FlaggedWord<Affinity> = &[(Affinity::ClientIp, ServiceFlags::CLIENT_IP)];
const ON_EMPTY: &FlaggedWord<OnEmpty> = &[
    (OnEmpty::Pass, ServiceFlags::PASS_WHEN_EMPTY),
    (OnEmpty::Reject, ServiceFlags::REJECT_WHEN_EMPTY),
];
const UNSERVED: &FlaggedWord<Unserved> = &[
    (Unserved::Reject, ServiceFlags::REJECT_UNSERVED),
    (Unserved::Drop, ServiceFlags::DROP_UNSERVED),
];
const TRACKING: &FlaggedWord<TrackingPolicy> = &[(TrackingPolicy::Always, ServiceFlags::TRACK_ALWAYS)];

/// The values of a word that have a flag, the one that packets obey first if several are set. The default value has no
/// flag.
type FlaggedWord<V> = [(V, ServiceFlags)];

fn flag<V: PartialEq>(word: &FlaggedWord<V>, value: &V) -> ServiceFlags {
    let flagged = word.iter().find(|(flagged, _)| flagged == value);
    flagged.map_or(ServiceFlags::empty(), |(_, flag)| *flag)
}

fn value<V: Copy + Default>(word: &FlaggedWord<V>, flags: ServiceFlags) -> V {
    let flagged = word.iter().find(|(_, flag)| flags.intersects(*flag));
    flagged.map_or_else(V::default, |(value, _)| *value)
}

impl FlaggedWords {
    /// The flags that tell these words.
    pub(in crate::plan) fn flags(&self) -> ServiceFlags {
        flag(AFFINITY, &self.affinity)
            | flag(ON_EMPTY, &self.on_empty)
            | flag(UNSERVED, &self.unserved)
            | flag(TRACKING, &self.tracking)
    }
}

impl From<ServiceFlags> for FlaggedWords {
    fn from(flags: ServiceFlags) -> Self {
        Self {
            affinity: value(AFFINITY, flags),
            on_empty: value(ON_EMPTY, flags),
            unserved: value(UNSERVED, flags),
            tracking: value(TRACKING, flags),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    fn words() -> impl Strategy<Value = FlaggedWords> {
        let words = (
            select(&[Affinity::Flow, Affinity::ClientIp]),
            select(&[OnEmpty::Drop, OnEmpty::Pass, OnEmpty::Reject]),
            select(&[Unserved::Pass, Unserved::Drop, Unserved::Reject]),
            select(&[TrackingPolicy::Changes, TrackingPolicy::Always]),
        );
        words.prop_map(|(affinity, on_empty, unserved, tracking)| FlaggedWords {
            affinity,
            on_empty,
            unserved,
            tracking,
        })
    }

    proptest! {
        #[test]
        fn words_come_back_from_their_flags_beside_any_others(words in words(), others: u16) {
            let own = [AFFINITY[0].1, ON_EMPTY[0].1, ON_EMPTY[1].1, UNSERVED[0].1, UNSERVED[1].1, TRACKING[0].1];
            let others = own.iter().fold(others, |others, flag| others & !flag.bits());
            let flags = words.flags() | ServiceFlags::from_bits_retain(others);
            prop_assert_eq!(FlaggedWords::from(flags), words);
            prop_assert_eq!(FlaggedWords::from(flags).flags(), words.flags());
        }
    }

    #[test]
    fn of_two_flags_of_a_word_packets_obey_the_same() {
        let flags = ServiceFlags::UNSERVED;
        assert_eq!(FlaggedWords::from(flags).unserved, Unserved::Reject);
        let flags = ServiceFlags::PASS_WHEN_EMPTY | ServiceFlags::REJECT_WHEN_EMPTY;
        assert_eq!(FlaggedWords::from(flags).on_empty, OnEmpty::Pass);
    }
}
