//! A span of time as an operator writes it: `"90s"`, `"2m"`, `"1h"`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::Invalid;

/// From a second to a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

impl Span {
    /// The shortest.
    pub const MIN: Duration = Duration::from_secs(1);
    /// One minute.
    pub const MINUTE: Self = Self(Duration::from_secs(60));
    /// The longest.
    pub const MAX: Duration = Duration::from_secs(24 * 3600);

    /// So many seconds, or as many as there can be.
    pub const fn of_seconds(seconds: u64) -> Self {
        let (min, max) = (Self::MIN.as_secs(), Self::MAX.as_secs());
        let fits = if seconds < min {
            min
        } else if seconds > max {
            max
        } else {
            seconds
        };
        Self(Duration::from_secs(fits))
    }

    /// The span as a duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// The span nearest to `duration`.
    pub fn nearest(duration: Duration) -> Self {
        Self(duration.clamp(Self::MIN, Self::MAX))
    }
}

impl FromStr for Span {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        humantime::parse_duration(text)
            .ok()
            .filter(|duration| (Self::MIN..=Self::MAX).contains(duration))
            .map(Self)
            .ok_or_else(|| {
                Invalid::new(format!(
                    "{text:?}: expected a time from one second to one day with its unit, such as \"90s\", \"2m\" or \"1h\""
                ))
            })
    }
}

impl TryFrom<String> for Span {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_duration(self.0).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(error.contains("expected a time"), "{text}: {error}");
        }
    }
}
