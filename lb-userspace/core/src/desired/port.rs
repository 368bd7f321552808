//! The port of a service, and ranges of ports.

use std::{fmt, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Invalid;

/// Ports from one to another, written `30000-32767`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortRange {
    /// The ports from `first` to `last`, both among them; `None` if `last` comes before `first`.
    pub const fn new(first: NonZeroU16, last: NonZeroU16) -> Option<Self> {
        if first.get() <= last.get() {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// The first port.
    pub fn first(self) -> NonZeroU16 {
        self.first
    }

    /// The last port.
    pub fn last(self) -> NonZeroU16 {
        self.last
    }

    /// Whether `port` is among them.
    pub fn contains(self, port: u16) -> bool {
        (self.first.get()..=self.last.get()).contains(&port)
    }

    /// Whether both have ports that the other lacks, and some in common: neither is the narrower one.
    pub(super) fn crosses(self, other: Self) -> bool {
        let within = |a: Self, b: Self| b.first <= a.first && a.last <= b.last;
        let meet = self.first <= other.last && other.first <= self.last;
        meet && !within(self, other) && !within(other, self)
    }
}

const RANGE_EXPECTED: &str =
    "expected two ports from 1 to 65535, the lower one first, such as \"30000-32767\"";

impl FromStr for PortRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.split_once('-')
            .and_then(|(first, last)| Self::new(number(first)?, number(last)?))
            .ok_or_else(|| Invalid::new(format!("{text:?}: {RANGE_EXPECTED}")))
    }
}

impl TryFrom<String> for PortRange {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.first, self.last))
    }
}

/// A port in digits only: numbers as Rust reads them may have a sign.
fn number(text: &str) -> Option<NonZeroU16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The ports of a service: one, those of a range, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServicePort {
    /// Every port for which no service of its own exists at the VIP.
    Any,
    /// One port.
    Exact(NonZeroU16),
    /// The ports of a range for which no service with a narrower range or one port exists at the VIP.
    Range(PortRange),
}

impl ServicePort {
    /// The port, if it is one.
    pub fn exact(self) -> Option<NonZeroU16> {
        match self {
            Self::Any | Self::Range(_) => None,
            Self::Exact(port) => Some(port),
        }
    }
}

impl From<PortRange> for ServicePort {
    fn from(range: PortRange) -> Self {
        if range.first == range.last {
            Self::Exact(range.first)
        } else {
            Self::Range(range)
        }
    }
}

const PORT_EXPECTED: &str = "expected a port from 1 to 65535, a range such as \"30000-32767\", or \"any\"";

impl FromStr for ServicePort {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let port = match text.split_once('-') {
            Some(_) => text.parse::<PortRange>().ok().map(Self::from),
            None => number(text).map(Self::Exact),
        };
        port.ok_or_else(|| Invalid::new(format!("{text:?}: {PORT_EXPECTED}")))
    }
}

impl Serialize for ServicePort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(port) => serializer.serialize_u16(port.get()),
            Self::Any | Self::Range(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for ServicePort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ServicePort;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port from 1 to 65535, a range such as \"30000-32767\", or \"any\"")
            }

            fn visit_u64<E: serde::de::Error>(self, port: u64) -> Result<ServicePort, E> {
                u16::try_from(port)
                    .ok()
                    .and_then(NonZeroU16::new)
                    .map(ServicePort::Exact)
                    .ok_or_else(|| E::custom(format!("{port}: {PORT_EXPECTED}")))
            }

            fn visit_i64<E: serde::de::Error>(self, port: i64) -> Result<ServicePort, E> {
                u64::try_from(port)
                    .map_err(|_| E::custom(format!("{port}: {PORT_EXPECTED}")))
                    .and_then(|port| self.visit_u64(port))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ServicePort, E> {
                // One port is a number here.
                match text.parse() {
                    Ok(ServicePort::Exact(_)) if !text.contains('-') => Err(E::custom(format!(
                        "{text:?}: {PORT_EXPECTED}; leave the quotes out"
                    ))),
                    port => port.map_err(E::custom),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("any"),
            Self::Exact(port) => f.pad(&port.to_string()),
            Self::Range(range) => range.fmt(f),
        }
    }
}
