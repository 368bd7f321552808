//! The words an operator chooses from.
//!
//! Invariant: a word is the same in the configuration file, the API and the command line.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::Serialize;
use serde::de::{self, Visitor};

use super::Invalid;

/// The transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP (RFC 9260).
    Sctp,
}

/// How a packet is rewritten toward its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarder {
    /// Destination MAC only; the backend holds the VIP and answers the client itself.
    L2dsr,
    /// Wrapped in an outer IP header (RFC 2003, RFC 2473, RFC 4213); the backend answers the client itself.
    Ipip,
    /// Wrapped in IP, UDP and Generic UDP Encapsulation, version 0 (draft-ietf-intarea-gue); else as `ipip`.
    Gue,
    /// Wrapped in IP and UDP, with nothing between UDP and the packet (Linux' foo-over-UDP); else as `ipip`.
    Fou,
    /// Wrapped in IP and GRE (RFC 2784); else as `ipip`.
    Gre,
    /// Destination address and port rewritten; answers come back through the balancer.
    Nat,
    /// Both addresses and ports rewritten, the source to one of the balancer's own; answers come back by themselves.
    Fullnat,
    /// Left to this host's own network stack: the backend is the balancer itself.
    Local,
}

impl Forwarder {
    /// Whether the backend sees its own address in place of the VIP.
    pub fn translates(self) -> bool {
        matches!(self, Self::Nat | Self::Fullnat)
    }

    /// The UDP port that its tunnels use where the operator names none: what IANA assigned to GUE, and what the manual
    /// of `ip fou` uses.
    pub fn default_tunnel_port(self) -> Option<u16> {
        match self {
            Self::Gue => Some(6080),
            Self::Fou => Some(5555),
            Self::L2dsr | Self::Ipip | Self::Gre | Self::Nat | Self::Fullnat | Self::Local => None,
        }
    }
}

/// Which flows are written down in the flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrackingPolicy {
    /// Flows whose slot has changed its owner of late.
    #[default]
    Changes,
    /// All.
    Always,
    /// None: a flow whose slot moves meets another backend.
    Never,
}

/// What of a packet decides its backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    /// Source address and ports: every connection on its own.
    #[default]
    Flow,
    /// Source address only: all of a client's connections go to one backend.
    ClientIp,
}

/// What happens to packets of a service that has no usable backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnEmpty {
    /// Dropped and counted.
    #[default]
    Drop,
    /// Left to this host's own network stack.
    Pass,
    /// Refused at once: TCP with a RST, others with an ICMP error "port unreachable".
    Reject,
}

/// What happens to packets that are for a VIP and for no service of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unserved {
    /// Left to this host's own network stack.
    #[default]
    Pass,
    /// Dropped and counted.
    Drop,
    /// Refused at once: TCP with a RST, others with an ICMP error "port unreachable".
    Reject,
}

/// What happens to packets that must not be forwarded any further (TTL or hop limit 1 or less).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TtlExpired {
    /// The sender is told (ICMP "time exceeded"), so that traceroute shows the balancer.
    #[default]
    Answer,
    /// Dropped and counted.
    Drop,
}

/// How fragments find their backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fragments {
    /// The first one says the ports, and later ones follow it; those that come before it are dropped.
    #[default]
    Follow,
    /// All of them by source address and protocol alone, so that their order does not matter.
    Hash3,
    /// They are dropped.
    Drop,
}

/// What the operator wants of a backend; HAProxy's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminState {
    /// Takes traffic while its health check is good.
    #[default]
    Ready,
    /// Takes no new flows.
    Drain,
    /// Takes nothing and is not checked.
    Maint,
    /// Takes no new flows, and goes when its drain is over. No operator can ask for it by this word: it is what the
    /// removal of a backend makes of it.
    Leaving,
}

/// Reads a word, and says which there are where there is another thing.
pub(super) struct WordVisitor<T> {
    words: &'static [&'static str],
    read: PhantomData<T>,
}

impl<T> WordVisitor<T> {
    /// A reader that lists these words to an operator.
    pub(super) fn of(words: &'static [&'static str]) -> Self {
        Self {
            words,
            read: PhantomData,
        }
    }
}

impl<T: FromStr> Visitor<'_> for WordVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of \"{}\", in quotes", self.words.join("\", \""))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::unknown_variant(text, self.words))
    }
}

/// Reads each type from its words; those given here are listed to an operator.
macro_rules! read_words {
    ($($type:ident: $words:expr),*) => { $(
        impl<'de> serde::de::Deserialize<'de> for $type {
            fn deserialize<D: serde::de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::desired::words::WordVisitor::of($words))
            }
        }
    )* };
}
pub(super) use read_words;

read_words! {
    Protocol: Self::WORDS,
    Forwarder: Self::WORDS,
    TrackingPolicy: Self::WORDS,
    Affinity: Self::WORDS,
    OnEmpty: Self::WORDS,
    Unserved: Self::WORDS,
    TtlExpired: Self::WORDS,
    Fragments: Self::WORDS,
    // Only a removal makes a backend leave; an operator cannot ask for it by this word.
    AdminState: &["ready", "drain", "maint"]
}

macro_rules! words {
    ($($type:ident { $($variant:ident => $word:literal),* })*) => { $(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$variant => $word),* })
            }
        }

        impl $type {
            /// Every word for it.
            pub const WORDS: &[&str] = &[$($word),*];
        }

        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(Invalid::new(format!("{text:?}: expected one of {}", Self::WORDS.join(", ")))),
                }
            }
        }
    )* };
}
pub(super) use words;

words! {
    Protocol { Tcp => "tcp", Udp => "udp", Sctp => "sctp" }
    Forwarder {
        L2dsr => "l2dsr", Ipip => "ipip", Gue => "gue", Fou => "fou", Gre => "gre", Nat => "nat", Fullnat => "fullnat",
        Local => "local"
    }
    TrackingPolicy { Changes => "changes", Always => "always", Never => "never" }
    Affinity { Flow => "flow", ClientIp => "client-ip" }
    OnEmpty { Drop => "drop", Pass => "pass", Reject => "reject" }
    Unserved { Pass => "pass", Drop => "drop", Reject => "reject" }
    TtlExpired { Answer => "answer", Drop => "drop" }
    Fragments { Follow => "follow", Hash3 => "hash3", Drop => "drop" }
    AdminState { Ready => "ready", Drain => "drain", Maint => "maint", Leaving => "leaving" }
}
