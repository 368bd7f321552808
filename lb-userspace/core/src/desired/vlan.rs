//! The VLAN that a backend is in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Invalid;

/// The number of a VLAN, 1 to 4094 (IEEE 802.1Q; 0 and 4095 are reserved).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// The number, in host byte order.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// The tags that packets toward a backend carry.
///
/// In TOML and JSON `100`, or `[200, 100]` with the outer one first; on the command line `100` or `200.100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vlan {
    /// One tag (IEEE 802.1Q).
    Tag(VlanId),
    /// Two tags, the outer one a service tag (IEEE 802.1ad).
    Stacked {
        /// The service tag.
        outer: VlanId,
        /// The customer tag.
        inner: VlanId,
    },
}

const EXPECTED: &str = "expected a VLAN from 1 to 4094, or two such as [200, 100], the outer one first";

fn id(number: u64) -> Result<VlanId, Invalid> {
    match number {
        1..=4094 => Ok(VlanId(number as u16)),
        _ => Err(Invalid::new(format!("{number}: {EXPECTED}"))),
    }
}

impl FromStr for Vlan {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = |part: &str| {
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            part.parse::<u64>()
                .ok()
                .filter(|_| digits)
                .and_then(|n| id(n).ok())
        };
        let vlan = match text.split_once('.') {
            None => number(text).map(Self::Tag),
            Some((outer, inner)) => number(outer)
                .zip(number(inner))
                .map(|(outer, inner)| Self::Stacked { outer, inner }),
        };
        vlan.ok_or_else(|| {
            Invalid::new(format!(
                "{text:?}: expected a VLAN from 1 to 4094, or two such as 200.100, the outer one first"
            ))
        })
    }
}

impl Serialize for Vlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tag(id) => serializer.serialize_u16(id.get()),
            Self::Stacked { outer, inner } => [outer.get(), inner.get()].serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Vlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Vlan;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a VLAN from 1 to 4094, or two such as [200, 100], the outer one first")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vlan, E> {
                id(number).map(Vlan::Tag).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Vlan, E> {
                let number = u64::try_from(number).map_err(|_| E::custom(format!("{number}: {EXPECTED}")))?;
                self.visit_u64(number)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut numbers: A) -> Result<Vlan, A::Error> {
                let mut ids = Vec::new();
                while let Some(number) = numbers.next_element::<u64>()? {
                    ids.push(id(number).map_err(de::Error::custom)?);
                }
                match ids[..] {
                    [outer, inner] => Ok(Vlan::Stacked { outer, inner }),
                    _ => Err(de::Error::custom(format!("{} numbers: {EXPECTED}", ids.len()))),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(id) => f.pad(&id.get().to_string()),
            Self::Stacked { outer, inner } => f.pad(&format!("{}.{}", outer.get(), inner.get())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_reads_back_as_written() {
        for (json, text) in [("1", "1"), ("4094", "4094"), ("[200,100]", "200.100")] {
            let vlan: Vlan = serde_json::from_str(json).expect(json);
            assert_eq!(serde_json::to_string(&vlan).expect("JSON"), json);
            assert_eq!(vlan.to_string(), text);
            assert_eq!(text.parse(), Ok(vlan));
        }
    }

    #[test]
    fn reserved_numbers_and_third_tags_are_refused() {
        for json in ["0", "4095", "-1", "[]", "[1]", "[1,2,3]", "[1,4095]"] {
            let error = serde_json::from_str::<Vlan>(json).expect_err(json).to_string();
            assert!(error.contains("1 to 4094"), "{json}: {error}");
        }
        for text in ["", "0", "4095", "+1", "1.", ".1", "1.2.3", "a"] {
            assert!(text.parse::<Vlan>().is_err(), "{text}");
        }
    }
}
