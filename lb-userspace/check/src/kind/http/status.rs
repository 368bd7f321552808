//! The HTTP status codes that count as success.
//!
//! Invariant: ranges are sorted, disjoint and not adjacent, so two spellings of one set are equal.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// Final HTTP status codes (RFC 9110 §15; 1xx answers are never final).
const LOWEST: u16 = 200;
const HIGHEST: u16 = 599;

/// A set of HTTP status codes, written `"200-299"`, `"200"` or `"200,204,301-302"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusRange(Vec<(u16, u16)>);

impl StatusRange {
    /// Whether `code` is in the set.
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&code))
    }

    fn merged(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1 + 1 => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self(merged)
    }
}

impl Default for StatusRange {
    /// Any 2xx.
    fn default() -> Self {
        Self(vec![(200, 299)])
    }
}

/// The text is no set of status codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?}: expected status codes from {LOWEST} to {HIGHEST}, such as \"200-299\", \"200\" or \"200,204,301-302\""
)]
pub struct ParseStatusError(String);

impl FromStr for StatusRange {
    type Err = ParseStatusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ranges: Option<Vec<_>> = text.split(',').map(parse_range).collect();
        ranges
            .map(Self::merged)
            .ok_or_else(|| ParseStatusError(text.to_owned()))
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (parse_code(low)?, parse_code(high)?);
    (low <= high).then_some((low, high))
}

fn parse_code(text: &str) -> Option<u16> {
    let code = text.trim().parse().ok()?;
    (LOWEST..=HIGHEST).contains(&code).then_some(code)
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (low, high)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{low}")?;
            if low != high {
                write!(f, "-{high}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A single code is naturally written as a number: `status = 204`.
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl Visitor<'_> for StatusVisitor {
    type Value = StatusRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("status codes such as \"200-299\", \"200\" or \"200,204,301-302\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StatusRange, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, code: i64) -> Result<StatusRange, E> {
        code.to_string().parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, code: u64) -> Result<StatusRange, E> {
        i64::try_from(code)
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(code), &self))
            .and_then(|code| self.visit_i64(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_single_codes_ranges_and_lists() {
        for (text, inside, outside) in [
            ("200-299", vec![200, 250, 299], vec![199, 300]),
            ("200", vec![200], vec![201]),
            ("200, 204,301-302", vec![200, 204, 301, 302], vec![201, 300, 303]),
        ] {
            let range: StatusRange = text.parse().expect(text);
            assert!(inside.iter().all(|&code| range.contains(code)), "{text}");
            assert!(!outside.iter().any(|&code| range.contains(code)), "{text}");
        }
    }

    #[test]
    fn one_set_has_one_spelling() {
        let spelled: StatusRange = "204,200-202,203,404".parse().expect("valid");
        assert_eq!(spelled.to_string(), "200-204,404");
    }

    #[test]
    fn refuses_everything_else_and_says_what_it_expected() {
        for text in [
            "", "2xx", "299-200", "199", "600", "200-", "-200", "200,,201", "20 0", "70000",
        ] {
            let error = text.parse::<StatusRange>().expect_err(text).to_string();
            assert!(error.contains("expected status codes from 200 to 599"), "{error}");
        }
    }

    #[test]
    fn a_number_is_a_single_code() {
        assert_eq!(
            serde_json::from_str::<StatusRange>("204")
                .expect("valid")
                .to_string(),
            "204"
        );
        assert!(serde_json::from_str::<StatusRange>("-1").is_err());
        assert!(serde_json::from_str::<StatusRange>("18446744073709551615").is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips_and_keeps_membership(ranges in prop::collection::vec((200u16..=599, 0u16..50), 1..8)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(low, width)| (low, (low + width).min(599))).collect();
            let set = StatusRange::merged(ranges.clone());
            prop_assert_eq!(&set.to_string().parse::<StatusRange>().expect("own text"), &set);
            for code in 100..=700 {
                let expected = ranges.iter().any(|&(low, high)| low <= code && code <= high);
                prop_assert_eq!(set.contains(code), expected);
            }
        }
    }
}
