//! Addresses by their prefix: one, or all that begin alike.
//!
//! Invariant: the bits behind the prefix are zero, so that equal sets of addresses are equal values.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::Invalid;

/// An address, or all addresses of a prefix: `192.0.2.80`, `198.51.100.0/24`, `2001:db8:5::/64`.
///
/// One address is written without a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct Prefix(IpNet);

impl Prefix {
    /// Its first address: the only one, or the one whose bits behind the prefix are zero.
    pub fn address(self) -> IpAddr {
        self.0.network()
    }

    /// Its last address.
    pub fn last(self) -> IpAddr {
        self.0.broadcast()
    }

    /// How many bits its addresses have in common: up to 32, or 128 for IPv6.
    pub fn length(self) -> u8 {
        self.0.prefix_len()
    }

    /// The address, if it is only one.
    pub fn host(self) -> Option<IpAddr> {
        (self.length() == self.0.max_prefix_len()).then(|| self.address())
    }

    /// Whether it holds `address`.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether it is of IPv4.
    pub fn is_ipv4(self) -> bool {
        self.address().is_ipv4()
    }

    /// Whether it is of IPv6.
    pub fn is_ipv6(self) -> bool {
        self.address().is_ipv6()
    }

    /// The prefix of that length that begins with `address`.
    ///
    /// # Errors
    /// When the length is none of the family's, or bits of the address lie behind it.
    pub fn new(address: IpAddr, len: u8) -> Result<Self, Invalid> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let net = IpNet::new(address, len).map_err(|_| {
            Invalid::new(format!(
                "/{len} is no length of a prefix: expected at most /{longest}"
            ))
        })?;
        if net != net.trunc() {
            // Of no length at all, it would be everybody.
            let meant = if len == 0 {
                address.to_string()
            } else {
                format!("{}, or {address} alone", net.trunc())
            };
            return Err(Invalid::new(format!(
                "{net} has address bits beyond its prefix: did you mean {meant}?"
            )));
        }
        Ok(Self(net))
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self(address.into())
    }
}

impl FromStr for Prefix {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let unknown = || {
            Invalid::new(format!(
                "{text:?} is no IP address and no prefix: expected one such as 192.0.2.1, 2001:db8::1, \
                 198.51.100.0/24 or 2001:db8:5::/64"
            ))
        };
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| unknown())?;
        match len {
            // "+8" and "008" would be numbers, too.
            Some(len) if len.starts_with('+') || (len.len() > 1 && len.starts_with('0')) => Err(unknown()),
            Some(len) => Self::new(address, len.parse().map_err(|_| unknown())?),
            None => Ok(address.into()),
        }
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // With `try_from`, a mistake in a list would be told of the list.
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Prefix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IP address or a prefix, such as 192.0.2.1 or 198.51.100.0/24")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prefix, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host() {
            Some(address) => f.pad(&address.to_string()),
            None => f.pad(&self.0.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_written_without_a_length() {
        for (text, shown) in [
            ("192.0.2.80", "192.0.2.80"),
            ("192.0.2.80/32", "192.0.2.80"),
            ("198.51.100.0/24", "198.51.100.0/24"),
            ("2001:DB8::1", "2001:db8::1"),
            ("2001:db8::1/128", "2001:db8::1"),
            ("2001:db8:5:0::/64", "2001:db8:5::/64"),
        ] {
            let prefix: Prefix = text.parse().expect(text);
            assert_eq!(prefix.to_string(), shown);
            assert_eq!(shown.parse(), Ok(prefix));
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_was_meant() {
        for (text, expected) in [
            (
                "198.51.100.7/24",
                "did you mean 198.51.100.0/24, or 198.51.100.7 alone?",
            ),
            ("2001:db8::1/64", "did you mean 2001:db8::/64"),
            ("10.0.0.0/33", "at most /32"),
            ("::/129", "at most /128"),
            ("10.0.0.0/", "is no IP address and no prefix"),
            ("10.0.0.0/+8", "is no IP address and no prefix"),
            ("10.0.0.0/08", "is no IP address and no prefix"),
            ("10.0.0.256", "is no IP address and no prefix"),
            ("host/8", "is no IP address and no prefix"),
            ("", "is no IP address and no prefix"),
        ] {
            let error = text.parse::<Prefix>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
