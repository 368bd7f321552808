//! How a service routes QUIC packets by connection ID (draft-ietf-quic-load-balancers).
//!
//! Invariant: the lengths of a [`Quic`] in a valid desired state are those that the draft allows, so that whoever encodes or
//! decodes connection IDs by it need not check them again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Invalid, Key};

/// The configurations that are live at once; a connection ID says by which one it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quic {
    /// The configurations, each with its own number.
    pub configs: Vec<QuicConfig>,
}

/// One way of writing a server ID into a connection ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuicConfig {
    /// Its number in the first three bits of a connection ID; 7 says that the ID cannot be routed.
    pub id: u8,
    /// Bytes of a server ID.
    pub server_id_length: u8,
    /// Bytes of the nonce behind it.
    pub nonce_length: u8,
    /// The key that server ID and nonce are encrypted with; absent: plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<QuicKey>,
}

impl QuicConfig {
    /// Largest number of a configuration.
    pub const MAX_ID: u8 = 6;
    /// Longest server ID, in bytes.
    pub const MAX_SERVER_ID: u8 = 15;
    /// Shortest nonce, in bytes.
    pub const MIN_NONCE: u8 = 4;
    /// Longest nonce, in bytes.
    pub const MAX_NONCE: u8 = 18;
    /// Most bytes of server ID and nonce together: a connection ID has 20, and the first one is not theirs.
    pub const MAX_SUM: u8 = 19;

    fn check(&self) -> Result<(), Invalid> {
        let Self {
            id,
            server_id_length,
            nonce_length,
            key: _,
        } = *self;
        let within = |name, value: u8, least: u8, most: u8| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let message = format!("{value}: expected a whole number from {least} to {most}");
            Err(Invalid::new(message).at(Key::Name(name)))
        };
        within("id", id, 0, Self::MAX_ID)?;
        within("server_id_length", server_id_length, 1, Self::MAX_SERVER_ID)?;
        within("nonce_length", nonce_length, Self::MIN_NONCE, Self::MAX_NONCE)?;
        if server_id_length + nonce_length > Self::MAX_SUM {
            let message = format!(
                "server ID and nonce have {} bytes, but a connection ID has room for {}",
                server_id_length + nonce_length,
                Self::MAX_SUM
            );
            return Err(Invalid::new(message).at(Key::Name("nonce_length")));
        }
        Ok(())
    }
}

impl Quic {
    /// Bytes of the backends' server IDs: the same in all configurations.
    pub fn server_id_length(&self) -> u8 {
        self.configs.first().map_or(0, |config| config.server_id_length)
    }

    /// Checks every rule between and within the configurations.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let configs = Key::Name("configs");
        if self.configs.is_empty() {
            return Err(Invalid::new("expected at least one configuration").at(configs));
        }
        for (i, config) in self.configs.iter().enumerate() {
            let here = |e: Invalid| e.at(Key::Index(i)).at(configs.clone());
            config.check().map_err(here)?;
            if self.configs[..i].iter().any(|earlier| earlier.id == config.id) {
                let message = format!("{} is the number of an earlier configuration", config.id);
                return Err(here(Invalid::new(message).at(Key::Name("id"))));
            }
            if config.server_id_length != self.server_id_length() {
                let message = format!(
                    "{}: expected {} as in the first configuration, since a backend has one server ID",
                    config.server_id_length,
                    self.server_id_length()
                );
                return Err(here(Invalid::new(message).at(Key::Name("server_id_length"))));
            }
        }
        Ok(())
    }
}

/// An AES-128 key: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QuicKey([u8; 16]);

impl QuicKey {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for QuicKey {
    /// A secret does not get into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicKey(..)")
    }
}

impl FromStr for QuicKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut key = [0; 16];
        hex::decode_to_slice(text, &mut key)
            .map_err(|_| Invalid::new("this is no key: expected 32 hexadecimal digits"))?;
        Ok(Self(key))
    }
}

impl TryFrom<String> for QuicKey {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<QuicKey> for String {
    fn from(key: QuicKey) -> Self {
        hex::encode(key.0)
    }
}

/// What names a backend in connection IDs: 1 to 15 bytes, written in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerId(Vec<u8>);

impl ServerId {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for ServerId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        hex::decode(text)
            .ok()
            .filter(|bytes| (1..=usize::from(QuicConfig::MAX_SERVER_ID)).contains(&bytes.len()))
            .map(Self)
            .ok_or_else(|| {
                Invalid::new(format!(
                    "{text:?} is no server ID: expected 2 to 30 hexadecimal digits, an even number of them"
                ))
            })
    }
}

impl TryFrom<String> for ServerId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(id: u8, server_id_length: u8, nonce_length: u8) -> QuicConfig {
        QuicConfig {
            id,
            server_id_length,
            nonce_length,
            key: None,
        }
    }

    #[test]
    fn lengths_are_those_of_the_draft() {
        let refusal = |configs: &[QuicConfig]| {
            let quic = Quic {
                configs: configs.to_vec(),
            };
            quic.check().err().map(|e| e.to_string()).unwrap_or_default()
        };
        for good in [(1, 4), (1, 18), (15, 4), (8, 8)] {
            assert_eq!(refusal(&[config(0, good.0, good.1)]), "");
        }
        let rows: [(&[QuicConfig], &str); 9] = [
            (&[], "configs: expected at least one"),
            (
                &[config(7, 1, 4)],
                "configs[0].id: 7: expected a whole number from 0 to 6",
            ),
            (&[config(0, 0, 4)], "configs[0].server_id_length: 0"),
            (&[config(0, 16, 4)], "configs[0].server_id_length: 16"),
            (&[config(0, 1, 3)], "configs[0].nonce_length: 3"),
            (&[config(0, 1, 19)], "configs[0].nonce_length: 19"),
            (
                &[config(0, 10, 10)],
                "configs[0].nonce_length: server ID and nonce have 20 bytes",
            ),
            (
                &[config(0, 3, 4), config(0, 3, 5)],
                "configs[1].id: 0 is the number of an earlier",
            ),
            (
                &[config(0, 3, 4), config(1, 4, 4)],
                "configs[1].server_id_length: 4: expected 3",
            ),
        ];
        for (configs, expected) in rows {
            let found = refusal(configs);
            assert!(
                found.starts_with(expected),
                "{found:?} does not begin with {expected:?}"
            );
        }
    }

    #[test]
    fn keys_and_server_ids_are_hexadecimal() {
        let key = "8f95f09245765f80256934e50c66207f";
        assert_eq!(String::from(key.parse::<QuicKey>().expect("a key")), key);
        for bad in [
            "",
            "8f",
            "8f95f09245765f80256934e50c66207",
            "8f95f09245765f80256934e50c66207g",
        ] {
            assert!(bad.parse::<QuicKey>().is_err(), "{bad}");
        }
        let id: ServerId = "0aFF".parse().expect("a server ID");
        assert_eq!((id.bytes(), id.to_string().as_str()), (&[0x0a, 0xff][..], "0aff"));
        for bad in ["", "a", "0x0a", "+1", &"00".repeat(16)] {
            assert!(bad.parse::<ServerId>().is_err(), "{bad}");
        }
        let shown = format!("{:?}", key.parse::<QuicKey>());
        assert!(!shown.contains("8f"), "{shown}");
    }
}
