//! Durations as operators write them: `"500ms"`, `"2s"`, `"1m"`.
//!
//! Invariant: what is written reads back as the same duration.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A duration that serde reads and writes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Duration);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as \"500ms\", \"2s\" or \"1m\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        humantime::parse_duration(text)
            .map(Text)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}
