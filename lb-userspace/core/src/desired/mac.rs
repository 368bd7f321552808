//! MACs, as operators write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::Invalid;

/// A MAC, written as `00:00:5e:00:01:0a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Its bytes, as they stand in a frame.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether it is that of one host: neither a group's nor nobody's.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl From<[u8; 6]> for MacAddress {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl FromStr for MacAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let octet = |digits: &str| {
            let mut octet = [0];
            hex::decode_to_slice(digits, &mut octet).ok().map(|()| octet[0])
        };
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        octets
            .and_then(|octets| octets.try_into().ok())
            .map(Self)
            .ok_or_else(|| {
                Invalid::new(format!(
                    "{text:?} is no MAC: expected six pairs of hexadecimal digits, such as 00:00:5e:00:01:0a"
                ))
            })
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_as_it_is_written() {
        for text in ["00:00:5e:00:01:0a", "ff:ff:ff:ff:ff:ff", "02:00:00:00:00:aa"] {
            let mac: MacAddress = text.parse().expect(text);
            assert_eq!(mac.to_string(), text);
            assert_eq!(text.to_uppercase().parse(), Ok(mac));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "00:00:5e:00:01",
            "00:00:5e:00:01:0a:0b",
            "00:00:5e:00:01:xx",
            "0:0:5e:0:1:a",
            "+0:00:5e:00:01:0a",
            "00-00-5e-00-01-0a",
            "00005e00010a",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn groups_and_nobody_are_no_hosts() {
        for (text, is_host) in [
            ("00:00:5e:00:01:0a", true),
            ("01:00:5e:00:00:01", false),
            ("ff:ff:ff:ff:ff:ff", false),
            ("00:00:00:00:00:00", false),
        ] {
            assert_eq!(
                text.parse::<MacAddress>().expect(text).is_unicast(),
                is_host,
                "{text}"
            );
        }
    }
}
