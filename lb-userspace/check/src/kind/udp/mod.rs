//! The UDP check: one datagram, and what of its answer counts.
//!
//! Invariant: one content has one form, whether it was written as text or as hexadecimal digits, so that equal questions are
//! one health check.

mod datagram;
#[cfg(feature = "probe")]
mod probe;

use serde::de::{Error, MapAccess};
use serde::{Serialize, Serializer, ser::SerializeMap};

use datagram::{Hex, Text};

use super::spec::not_mine;
use super::{Asks, CheckKey, Spec, take};
use crate::CheckError;

/// A datagram that is sent, and the answer that counts as success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UdpCheck {
    /// What is sent; without it an empty datagram.
    pub payload: Option<Vec<u8>>,
    /// What the answer must hold; without it any answer counts.
    pub expect: Option<Vec<u8>>,
}

impl Spec for UdpCheck {
    const KEYS: &'static [CheckKey] = &[
        CheckKey {
            name: "payload",
            option: "check-payload",
            value: "TEXT",
            help: "The text that a udp check sends; an empty datagram by default",
        },
        CheckKey {
            name: "payload_hex",
            option: "check-payload-hex",
            value: "HEX",
            help: "The bytes that a udp check sends, in hexadecimal digits",
        },
        CheckKey {
            name: "expect",
            option: "check-expect",
            value: "TEXT",
            help: "A text that the answer to a udp check must hold; by default any answer will do",
        },
        CheckKey {
            name: "expect_hex",
            option: "check-expect-hex",
            value: "HEX",
            help: "Bytes that the answer to a udp check must hold, in hexadecimal digits",
        },
    ];
    const ASKS: Asks = Asks::Port;

    fn read<'de, A: MapAccess<'de>>(&mut self, key: &'static str, values: &mut A) -> Result<bool, A::Error> {
        let (mut text, mut hex) = (Text::default(), Hex::default());
        let (field, bytes) = match key {
            "payload" => (&mut self.payload, take(&mut text, values)?.then_some(text.0)),
            "payload_hex" => (&mut self.payload, take(&mut hex, values)?.then_some(hex.0)),
            "expect" => (&mut self.expect, take(&mut text, values)?.then_some(text.0)),
            "expect_hex" => (&mut self.expect, take(&mut hex, values)?.then_some(hex.0)),
            _ => return Err(not_mine(key)),
        };
        let given = bytes.is_some();
        if given && field.is_some() {
            let name = key.trim_end_matches("_hex");
            let message = format!("give either `{name}` or `{name}_hex`");
            return Err(A::Error::custom(CheckError::new(key, message)));
        }
        *field = bytes.or(field.take());
        Ok(given)
    }

    fn validate(&self) -> Result<(), CheckError> {
        let Self { payload, expect } = self;
        datagram::validate("payload", payload.as_deref())?;
        datagram::validate("expect", expect.as_deref())
    }
}

impl Serialize for UdpCheck {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = serializer.serialize_map(None)?;
        for (text_key, hex_key, bytes) in [
            ("payload", "payload_hex", &self.payload),
            ("expect", "expect_hex", &self.expect),
        ] {
            let Some(bytes) = bytes else { continue };
            match datagram::as_text(bytes) {
                Some(text) => table.serialize_entry(text_key, text)?,
                None => table.serialize_entry(hex_key, &datagram::to_hex(bytes))?,
            }
        }
        table.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Kind;
    use crate::table_tests::{assert_reads_back, assert_refused, read};

    #[test]
    fn text_and_digits_are_two_spellings_of_one_check() {
        let text = read("type = 'udp'\npayload = \"ping\\n\"\nexpect = 'pong'").expect("valid");
        let hex = read("payload_hex = '70 69 6E 67 0a'\nexpect_hex = '706f6e67'\ntype = 'UDP_CHECK'");
        assert_eq!(Ok(text.clone()), hex);
        let expected = UdpCheck {
            payload: Some(b"ping\n".to_vec()),
            expect: Some(b"pong".to_vec()),
        };
        assert_eq!(text.kind, Kind::Udp(expected));
        let binary = read("type = 'udp'\npayload_hex = '00ff'").expect("valid");
        let json = serde_json::to_value(&binary).expect("serialises");
        assert_eq!(json["payload_hex"], "00ff");
    }

    #[test]
    fn bad_values_are_refused_with_what_was_expected() {
        let long = format!("type = 'udp'\nexpect = '{}'", "x".repeat(1025));
        let digits = "expected pairs of hexadecimal digits such as \"00ff\"";
        assert_refused(&[
            (
                "type = 'tcp'\npayload = 'x'",
                "`payload`: only applies to type = \"udp\"",
            ),
            (
                "type = 'udp'\nclose = 'fin'",
                "`close`: only applies to type = \"tcp\"",
            ),
            (
                "type = 'udp'\npayload = ''",
                "`payload`: expected 1 to 1024 bytes, found 0",
            ),
            (&long, "`expect`: expected 1 to 1024 bytes, found 1025"),
            ("type = 'udp'\npayload_hex = '0'", digits),
            ("type = 'udp'\nexpect_hex = '0x00'", digits),
            (
                "type = 'udp'\npayload = 'a'\npayload_hex = '61'",
                "`payload_hex`: give either `payload` or `payload_hex`",
            ),
        ]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            payload in prop::option::of(prop::collection::vec(any::<u8>(), 1..40)),
            expect in prop::option::of("\\PC{1,20}"),
        ) {
            let expect = expect.map(String::into_bytes);
            assert_reads_back(&Kind::Udp(UdpCheck { payload, expect }));
        }
    }
}
