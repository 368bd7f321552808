//! The flat table in which a [`Check`] is written, and its way to and from the typed form.
//!
//! Invariant: every key is known here, so that an unknown key is refused (serde cannot both flatten and refuse), and
//! a key that belongs to another type is refused with its name. A value is read where it stands, so that errors know the place.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::CheckError;
use crate::check::{Check, Close, Timing};
use crate::kind::{Kind, KindInfo, KindWord, Specs};
use crate::span::Span;

/// The keys of all checks; those of the kinds come after the port.
const FIRST_KEYS: [&str; 2] = ["type", "port"];
const LAST_KEYS: [&str; 6] = ["close", "interval", "fast_interval", "timeout", "rise", "fall"];

/// Every key, in the order in which they are listed.
static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let of_kinds = Kind::ALL.iter().flat_map(|info| info.keys).map(|key| key.name);
    FIRST_KEYS.into_iter().chain(of_kinds).chain(LAST_KEYS).collect()
});

/// An interval or timeout.
type Delay = Span<{ Check::MIN_DURATION.as_millis() as u64 }, { Check::MAX_DURATION.as_millis() as u64 }>;

/// A count from 1 to 255. It is read wide, so that any other number is refused in our words.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(try_from = "i64")]
struct Count(u8);

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        narrow(value, "a count from 1 to 255").map(Self)
    }
}

/// A port. It is read wide, so that any other number is refused in our words.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(try_from = "i64")]
struct Port(u16);

impl TryFrom<i64> for Port {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        narrow(value, "a port from 1 to 65535").map(Self)
    }
}

/// `value` as a narrower type, unless it does not fit or is 0.
fn narrow<T: TryFrom<i64>>(value: i64, expected: &str) -> Result<T, String> {
    let narrow = T::try_from(value).ok().filter(|_| value != 0);
    narrow.ok_or_else(|| format!("expected {expected}, found {value}"))
}

/// What the table says, key by key.
#[derive(Debug, Default)]
struct RawCheck {
    port: Option<Port>,
    specs: Specs,
    /// The keys of kinds that have a value.
    given: Vec<&'static str>,
    close: Option<Close>,
    interval: Option<Delay>,
    fast_interval: Option<Delay>,
    timeout: Option<Delay>,
    rise: Option<Count>,
    fall: Option<Count>,
}

struct TableVisitor;

impl<'de> Visitor<'de> for TableVisitor {
    type Value = (KindWord, RawCheck);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a check: a `type` and its keys in braces")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Self::Value, A::Error> {
        let mut kind = None;
        let mut raw = RawCheck::default();
        let mut seen = Vec::new();
        while let Some(KnownKey(key)) = table.next_key()? {
            if seen.contains(&key) {
                return Err(A::Error::duplicate_field(key));
            }
            seen.push(key);
            match key {
                "type" => kind = Some(table.next_value_seed(KindFor(&raw))?),
                "port" => raw.port = table.next_value()?,
                "close" => raw.close = table.next_value()?,
                "interval" => raw.interval = table.next_value()?,
                "fast_interval" => raw.fast_interval = table.next_value()?,
                "timeout" => raw.timeout = table.next_value()?,
                "rise" => raw.rise = table.next_value()?,
                "fall" => raw.fall = table.next_value()?,
                of_kind => {
                    if raw.specs.read(of_kind, &mut table)? {
                        raw.given.push(of_kind);
                    }
                }
            }
        }
        let kind = kind.ok_or_else(|| A::Error::missing_field("type"))?;
        Ok((kind, raw))
    }
}

/// The `type` of a table whose earlier keys have been read. A type that they do not belong to is refused where it stands.
struct KindFor<'a>(&'a RawCheck);

impl<'de> DeserializeSeed<'de> for KindFor<'_> {
    type Value = KindWord;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<KindWord, D::Error> {
        let kind = KindWord::deserialize(deserializer)?;
        self.0.refuse_keys_of_others(kind).map_err(D::Error::custom)?;
        Ok(kind)
    }
}

/// A key of [`KEYS`]; any other is refused where it stands.
struct KnownKey(&'static str);

impl<'de> Deserialize<'de> for KnownKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = KnownKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("field identifier")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<KnownKey, E> {
        let known = KEYS.iter().find(|key| **key == text);
        known
            .map(|key| KnownKey(key))
            .ok_or_else(|| E::unknown_field(text, &KEYS))
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, raw) = deserializer.deserialize_struct("RawCheck", &KEYS, TableVisitor)?;
        raw.into_check(kind).map_err(D::Error::custom)
    }
}

impl RawCheck {
    fn into_check(self, kind: KindWord) -> Result<Check, CheckError> {
        self.refuse_keys_of_others(kind)?;
        let default = Timing::default();
        let or_default = |delay: Option<Delay>, default: Duration| delay.map_or(default, Delay::get);
        let timing = Timing {
            interval: or_default(self.interval, default.interval),
            timeout: or_default(self.timeout, default.timeout),
            rise: self.rise.map_or(default.rise, |Count(rise)| rise),
            fall: self.fall.map_or(default.fall, |Count(fall)| fall),
            fast_interval: self.fast_interval.map(Delay::get),
        };
        Ok(Check {
            kind: self.specs.into_kind(kind),
            port: self.port.map(|Port(port)| port),
            close: self.close.unwrap_or_default(),
            timing,
        })
    }

    fn refuse_keys_of_others(&self, kind: KindWord) -> Result<(), CheckError> {
        for other in Kind::ALL.iter().filter(|info| info.kind != kind) {
            if let Some(key) = other.keys.iter().find(|key| self.given.contains(&key.name)) {
                let message = format!("only applies to type = {:?}", other.word);
                return Err(CheckError::new(key.name, message));
            }
        }
        if self.close.is_some() && !KindInfo::named(kind).connects {
            let connecting = Kind::ALL.iter().filter(|info| info.connects);
            let types: Vec<_> = connecting.map(|info| format!("type = {:?}", info.word)).collect();
            let types = types.join(" and ");
            let message = format!("only applies to {types}: the others make no connections");
            return Err(CheckError::new("close", message));
        }
        Ok(())
    }
}

/// A [`Check`] as it is written.
#[derive(serde::Serialize)]
struct WrittenCheck<'a> {
    #[serde(rename = "type")]
    word: KindWord,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(flatten)]
    kind: &'a Kind,
    // Earlier versions, which may read a checkpoint of this one, know nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<Close>,
    interval: Delay,
    #[serde(skip_serializing_if = "Option::is_none")]
    fast_interval: Option<Delay>,
    timeout: Delay,
    rise: u8,
    fall: u8,
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            kind,
            port,
            close,
            timing:
                Timing {
                    interval,
                    timeout,
                    rise,
                    fall,
                    fast_interval,
                },
        } = self;
        WrittenCheck {
            word: kind.word(),
            port: *port,
            kind,
            close: (*close != Close::default()).then_some(*close),
            interval: Delay::nearest(*interval),
            fast_interval: fast_interval.map(Delay::nearest),
            timeout: Delay::nearest(*timeout),
            rise: *rise,
            fall: *fall,
        }
        .serialize(serializer)
    }
}
