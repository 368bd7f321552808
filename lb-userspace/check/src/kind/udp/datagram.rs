//! The content of a datagram as operators write it: text, or hexadecimal digits.

use serde::de::{Deserialize, Deserializer, Error};

use crate::{Check, CheckError};

/// Content that is written as text.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into_bytes()))
    }
}

/// Content that is written in hexadecimal digits. Blanks between them do not count.
#[derive(Debug, Default)]
pub(super) struct Hex(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut digits = String::deserialize(deserializer)?;
        digits.retain(|c| !c.is_ascii_whitespace());
        hex::decode(&digits).map(Self).map_err(|error| {
            D::Error::custom(format!(
                "expected pairs of hexadecimal digits such as \"00ff\": {error}"
            ))
        })
    }
}

/// The content as text that can be read, if it is some.
pub(super) fn as_text(bytes: &[u8]) -> Option<&str> {
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains(is_odd))
}

/// The content in hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// Checks the length of what is sent or expected.
pub(super) fn validate(key: &'static str, bytes: Option<&[u8]>) -> Result<(), CheckError> {
    let max = Check::MAX_TEXT;
    match bytes.map(<[u8]>::len) {
        None => Ok(()),
        Some(length) if (1..=max).contains(&length) => Ok(()),
        Some(length) => Err(CheckError::new(
            key,
            format!("expected 1 to {max} bytes, found {length}"),
        )),
    }
}
