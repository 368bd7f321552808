//! Errors of reading in the operator's words, with a guess at what was meant.
//!
//! serde tells an error type what is wrong by the function it calls: which key is unknown, and which keys are known.
//! [`Worded`] answers these calls in its own words. No sentence of another crate is taken apart.
//!
//! Invariant: a message that another crate wrote itself comes through unchanged.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected, Visitor};

/// An error `E` of a reader whose message is in the operator's words.
#[derive(Debug)]
pub(crate) struct Worded<E>(pub(crate) E);

impl<E> Worded<E> {
    /// The reader's own error, which holds the message.
    pub(crate) fn theirs(self) -> E {
        self.0
    }
}

impl<E: Display> Display for Worded<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: std::error::Error> std::error::Error for Worded<E> {}

impl<E: de::Error> de::Error for Worded<E> {
    fn custom<T: Display>(message: T) -> Self {
        Self(E::custom(message))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let expected = match (&found, expected.as_str()) {
            (Unexpected::Map, LIST) => {
                "a list of tables: write its header in double brackets, as in [[service]]"
            }
            (_, expected) => plain(expected),
        };
        // JSON's word for it; TOML has no such value.
        let found = match found {
            Unexpected::Unit => "null".to_owned(),
            found => found.to_string(),
        };
        Self::custom(format_args!("invalid type: {found}, expected {expected}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        Self::custom(format_args!(
            "invalid value: {found}, expected {}",
            plain(&expected)
        ))
    }

    fn unknown_variant(unknown: &str, known: &'static [&'static str]) -> Self {
        Self::custom(Unknown {
            what: "word",
            unknown,
            known,
        })
    }

    fn unknown_field(unknown: &str, known: &'static [&'static str]) -> Self {
        Self::custom(Unknown {
            what: "key",
            unknown,
            known,
        })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::custom(format_args!("missing key `{key}`"))
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::custom(format_args!("the key `{key}` is given twice"))
    }
}

/// A key or a word of an enum that is not known, and those that are.
struct Unknown<'a> {
    what: &'static str,
    unknown: &'a str,
    known: &'static [&'static str],
}

impl Display for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unknown, known } = self;
        write!(f, "unknown {what} `{unknown}`, expected ")?;
        match known {
            [] => write!(f, "none")?,
            [one] => write!(f, "`{one}`")?,
            [one, other] => write!(f, "`{one}` or `{other}`")?,
            many => write!(f, "one of `{}`", many.join("`, `"))?,
        }
        match nearest(unknown, known) {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

/// How alike two words are that may be meant for each other, from 0 to 1.
const ALIKE: f64 = 0.6;

/// The known word most like the unknown one.
fn nearest(unknown: &str, known: &[&'static str]) -> Option<&'static str> {
    let unknown = unknown.to_ascii_lowercase();
    let likeness = |word: &str| strsim::normalized_damerau_levenshtein(&unknown, word);
    let alike = known.iter().map(|word| (likeness(word), *word));
    alike
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// What serde expects where it reads a list.
const LIST: &str = "a sequence";

/// What `visitor` expects, as it says it itself.
pub(crate) fn expectation<'de>(visitor: &impl Visitor<'de>) -> String {
    (visitor as &dyn Expected).to_string()
}

/// What is expected, in plain words: serde's own types say it with the names of Rust's types. What types of ours expect
/// comes through unchanged.
pub(crate) fn plain(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        LIST => "a list: put the values in brackets",
        other => other,
    }
}
