//! The port of a service.

use std::{fmt, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Invalid;

/// The port of a service: one, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServicePort {
    /// Every port for which no service of its own exists at the VIP.
    Any,
    /// One port.
    Exact(NonZeroU16),
}

impl ServicePort {
    /// The port, unless it is "any".
    pub fn exact(self) -> Option<NonZeroU16> {
        match self {
            Self::Any => None,
            Self::Exact(port) => Some(port),
        }
    }
}

const PORT_EXPECTED: &str = "expected a port from 1 to 65535, or \"any\"";

impl FromStr for ServicePort {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "any" => Ok(Self::Any),
            _ => text
                .parse()
                .map(Self::Exact)
                .map_err(|_| Invalid::new(format!("{text:?}: {PORT_EXPECTED}"))),
        }
    }
}

impl Serialize for ServicePort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Exact(port) => serializer.serialize_u16(port.get()),
        }
    }
}

impl<'de> Deserialize<'de> for ServicePort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ServicePort;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port from 1 to 65535, or \"any\"")
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
                if text == "any" {
                    Ok(ServicePort::Any)
                } else {
                    Err(E::custom(format!("{text:?}: {PORT_EXPECTED}")))
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
        }
    }
}
