//! What a service does about the segment sizes that TCP agrees upon.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Invalid;

/// What becomes of the MSS option (RFC 9293 3.7.1) of SYNs that pass through; it is never raised.
///
/// In TOML and JSON `false`, `true` or a number; on the command line the same words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MssClamp {
    /// Nothing.
    #[default]
    Off,
    /// At most what the narrowest way to the service's backends carries.
    Auto,
    /// At most so many bytes: [`MssClamp::MIN`] to [`MssClamp::MAX`].
    To(u16),
}

impl MssClamp {
    /// What every host can take (RFC 9293 3.7.1).
    pub const MIN: u16 = 536;
    /// What the largest IPv4 packet carries.
    pub const MAX: u16 = 65_495;
}

const EXPECTED: &str = "expected true, false, or a number of bytes from 536 to 65495";

fn bytes(number: u64) -> Result<MssClamp, Invalid> {
    u16::try_from(number)
        .ok()
        .filter(|bytes| (MssClamp::MIN..=MssClamp::MAX).contains(bytes))
        .map(MssClamp::To)
        .ok_or_else(|| Invalid::new(format!("{number}: {EXPECTED}")))
}

impl FromStr for MssClamp {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "false" => Ok(Self::Off),
            "true" => Ok(Self::Auto),
            _ => text
                .parse()
                .map_err(|_| Invalid::new(format!("{text:?}: {EXPECTED}")))
                .and_then(bytes),
        }
    }
}

impl Serialize for MssClamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::Auto => serializer.serialize_bool(true),
            Self::To(bytes) => serializer.serialize_u16(*bytes),
        }
    }
}

impl<'de> Deserialize<'de> for MssClamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = MssClamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a number of bytes from 536 to 65495")
            }

            fn visit_bool<E>(self, on: bool) -> Result<MssClamp, E> {
                Ok(if on { MssClamp::Auto } else { MssClamp::Off })
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<MssClamp, E> {
                bytes(number).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<MssClamp, E> {
                let number = u64::try_from(number).map_err(|_| E::custom(format!("{number}: {EXPECTED}")))?;
                self.visit_u64(number)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl fmt::Display for MssClamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.pad("false"),
            Self::Auto => f.pad("true"),
            Self::To(bytes) => f.pad(&bytes.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clamp_reads_back_as_written() {
        for text in ["false", "true", "536", "1360", "65495"] {
            let clamp: MssClamp = text.parse().expect(text);
            assert_eq!(clamp.to_string(), text);
            assert_eq!(serde_json::to_string(&clamp).expect("JSON"), text);
            assert_eq!(serde_json::from_str::<MssClamp>(text).expect("JSON"), clamp);
        }
    }

    #[test]
    fn sizes_that_no_packet_has_are_refused() {
        for json in ["0", "535", "65496", "-1", "\"auto\"", "null"] {
            let error = serde_json::from_str::<MssClamp>(json)
                .expect_err(json)
                .to_string();
            assert!(error.contains("536 to 65495"), "{json}: {error}");
        }
    }
}
