//! The kinds of checks: a folder and a line of [`probes!`] for each.
//!
//! A folder holds what an operator writes (`mod.rs`: a type that is a [`Spec`]) and how it is asked (`probe.rs`: the type is a
//! [`Probe`](crate::probe::Probe), behind the feature `probe`).
//!
//! Invariant: a key belongs to one kind. A key that several kinds need is a key of [`Check`](crate::Check), as `close` is.

mod http;
mod none;
mod ping;
mod spec;
mod tcp;
mod udp;

use serde::de::MapAccess;
use serde::{Deserialize, Serialize};

pub use http::{ParseStatusError, StatusRange};
pub use spec::CheckKey;
pub(crate) use spec::{Asks, Spec, take};

use crate::CheckError;

/// The registry of kinds of checks: a kind is a folder of that name, and a line here.
///
/// A line gives the kind's documentation, its folder (which is also its word in files and on the command line), its variant of
/// [`Kind`], its specification, and the names that keepalived has for it. From these lines come the enum, the reading and
/// writing of checks with their keys, their validation, the options of the command line, and the dispatch of probes.
macro_rules! probes {
    ($with:ident) => {
        $with! {
            /// Nothing: the backend always counts as up.
            none None(NoCheck) [];
            /// It accepts a TCP connection.
            tcp Tcp(TcpCheck) ["TCP_CHECK"];
            /// It answers an HTTP/1.1 GET as expected.
            http Http(HttpCheck) ["HTTP_GET"];
            /// It answers an ICMP (RFC 792) or ICMPv6 (RFC 4443) echo request.
            ping Ping(PingCheck) ["PING_CHECK"];
            /// It answers a datagram as expected.
            udp Udp(UdpCheck) ["UDP_CHECK"];
        }
    };
}
#[cfg(feature = "probe")]
pub(crate) use probes;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $folder:ident $variant:ident($spec:ident) [$($alias:tt),*];)+) => {
        $(pub use $folder::$spec;)+

        /// What is asked of a backend.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(untagged)]
        pub enum Kind {
            $($(#[doc = $doc])+ $variant($spec),)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [KindInfo] = &[$(KindInfo::of::<$spec>(KindWord::$variant, stringify!($folder))),+];

            /// A check of each kind, with the defaults of its keys.
            pub fn defaults() -> Vec<Self> {
                vec![$(Self::$variant($spec::default())),+]
            }

            pub(crate) const fn word(&self) -> KindWord {
                match self { $(Self::$variant(_) => KindWord::$variant),+ }
            }

            /// Checks the values of the kind's keys against their limits.
            pub(crate) fn validate(&self) -> Result<(), CheckError> {
                match self { $(Self::$variant(spec) => spec.validate()),+ }
            }
        }

        /// The `type` of a check; keepalived's names are understood too.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum KindWord {
            $($(#[serde(alias = $alias)])* $variant,)+
        }

        /// A specification of every kind, for as long as the `type` may still come.
        #[derive(Debug, Default)]
        pub(crate) struct Specs {
            $($folder: $spec,)+
        }

        impl Specs {
            /// Reads the value of a key of one of the kinds; false where it is null.
            pub(crate) fn read<'de, A: MapAccess<'de>>(&mut self, key: &'static str, values: &mut A) -> Result<bool, A::Error> {
                $(if $spec::KEYS.iter().any(|known| known.name == key) {
                    return self.$folder.read(key, values);
                })+
                Err(spec::not_mine(key))
            }

            /// The kind of that word.
            pub(crate) fn into_kind(self, word: KindWord) -> Kind {
                match word { $(KindWord::$variant => Kind::$variant(self.$folder)),+ }
            }
        }
    };
}

probes!(kinds);

impl Default for Kind {
    fn default() -> Self {
        Self::Tcp(TcpCheck)
    }
}

impl Kind {
    pub(crate) fn info(&self) -> &'static KindInfo {
        KindInfo::named(self.word())
    }
}

/// What is the same for all checks of a kind.
#[derive(Debug)]
pub struct KindInfo {
    /// What an operator writes for it.
    pub word: &'static str,
    /// The keys that it has besides those of all checks.
    pub keys: &'static [CheckKey],
    pub(crate) kind: KindWord,
    pub(crate) asks: Asks,
    pub(crate) connects: bool,
}

impl KindInfo {
    const fn of<S: Spec>(kind: KindWord, word: &'static str) -> Self {
        Self {
            word,
            keys: S::KEYS,
            kind,
            asks: S::ASKS,
            connects: S::CONNECTS,
        }
    }

    pub(crate) fn named(word: KindWord) -> &'static Self {
        // The words are numbered as the list is.
        &Kind::ALL[word as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_key_belongs_to_one_kind_and_an_option_to_one_key() {
        let keys: Vec<_> = Kind::ALL.iter().flat_map(|info| info.keys).collect();
        let names: HashSet<_> = keys.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), keys.len());
        for key in keys {
            assert_eq!(key.option, format!("check-{}", key.name.replace('_', "-")));
        }
    }

    #[test]
    fn words_and_kinds_belong_together() {
        for (kind, info) in Kind::defaults().iter().zip(Kind::ALL) {
            assert_eq!(kind.info().word, info.word);
            assert_eq!(kind.word(), info.kind);
            let word = serde_json::to_value(info.kind).expect("a word");
            assert_eq!(word, info.word);
            assert_eq!(kind.validate(), Ok(()), "the defaults are good");
        }
    }
}
