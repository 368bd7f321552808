//! A span of time as an operator writes it: `"500ms"`, `"90s"`, `"2m"`, `"1h"`.
//!
//! Invariant: a [`Span`] is within its bounds, and what is written reads back as the same span.

use std::{fmt, str::FromStr, time::Duration};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// A span of time from `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span<const MIN: u64, const MAX: u64>(Duration);

/// Why a text is no [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: expected {expected}")]
pub struct SpanError {
    text: String,
    expected: String,
}

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    /// The shortest.
    pub const MIN: Duration = Duration::from_millis(MIN);
    /// The longest.
    pub const MAX: Duration = Duration::from_millis(MAX);

    /// So many seconds, or as many as there can be.
    pub const fn of_seconds(seconds: u64) -> Self {
        let millis = seconds.saturating_mul(1000);
        let fits = if millis < MIN {
            MIN
        } else if millis > MAX {
            MAX
        } else {
            millis
        };
        Self(Duration::from_millis(fits))
    }

    /// The span as a duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// The span nearest to `duration`.
    pub fn nearest(duration: Duration) -> Self {
        Self(duration.clamp(Self::MIN, Self::MAX))
    }

    fn read(text: &str) -> Option<Self> {
        let duration = humantime::parse_duration(text).ok()?;
        (Self::MIN..=Self::MAX)
            .contains(&duration)
            .then_some(Self(duration))
    }

    fn expected() -> String {
        let [min, max] = [Self::MIN, Self::MAX].map(humantime::format_duration);
        format!("a time from {min} to {max} with its unit, such as \"90s\", \"2m\" or \"1h\"")
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for Span<MIN, MAX> {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        Self::read(text).ok_or_else(|| SpanError {
            text: text.to_owned(),
            expected: Self::expected(),
        })
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Span<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_duration(self.0).to_string())
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Span<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Span<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpanVisitor)
    }
}

struct SpanVisitor<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Visitor<'_> for SpanVisitor<MIN, MAX> {
    type Value = Span<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Span::<MIN, MAX>::expected())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    type Span = super::Span<1_000, 86_400_000>;

    #[test]
    fn a_span_reads_back_as_written() {
        for text in ["1s", "90s", "1m 30s", "2m", "1day"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for text in ["", "5", "500ms", "25h", "-1s", "forever"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(
                error.contains("expected a time from 1s to 1day"),
                "{text}: {error}"
            );
        }
    }
}
