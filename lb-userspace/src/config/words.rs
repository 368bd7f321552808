//! serde's messages in the operator's words, with a guess at what was meant.
//!
//! Invariant: a message that is not recognised comes through unchanged.

/// What serde says, and what we say instead: only of types that are not our own, such as numbers, addresses and what serde
/// derives, which have no place for another text. A type of ours says what it expects itself.
const WORDS: &[(&str, &str)] = &[
    ("expected u8", "expected a whole number from 0 to 255"),
    ("expected u16", "expected a whole number from 0 to 65535"),
    ("expected u32", "expected a whole number from 0 to 4294967295"),
    (
        "expected a nonzero u16",
        "expected a whole number from 1 to 65535",
    ),
    (
        "expected a nonzero u32",
        "expected a whole number from 1 to 4294967295",
    ),
    (
        "invalid IP address syntax",
        "this is no IP address: expected one such as 192.0.2.1 or 2001:db8::1",
    ),
    // No word of an operator's: it is what a removal makes of a backend.
    (
        "expected one of `ready`, `drain`, `maint`, `leaving`",
        "expected one of `ready`, `drain`, `maint`",
    ),
    (
        "invalid type: map, expected a sequence",
        "expected a list of tables: write its header in double brackets, as in [[service]]",
    ),
    ("wanted string or table", "expected one of its words, in quotes"),
    (
        "expected a sequence",
        "expected a list: put the values in brackets",
    ),
];

/// How alike two words are that may be meant for each other, from 0 to 1.
const ALIKE: f64 = 0.6;

/// `message` in plain words; where it names an unknown word, with the known one that is most like it.
pub(crate) fn explained(message: &str) -> String {
    let mut text = message
        .replacen("unknown field", "unknown key", 1)
        .replacen("unknown variant", "unknown word", 1)
        .replacen("missing field", "missing key", 1);
    for (theirs, ours) in WORDS {
        // Only at the end of a message: "expected u16" is part of "expected u16 array".
        if let Some(rest) = text.strip_suffix(theirs) {
            text = format!("{rest}{ours}");
        }
    }
    match guess(message) {
        Some(known) => format!("{text}; did you mean `{known}`?"),
        None => text,
    }
}

/// From "unknown field `shape`, expected one of `share`, `name`" the known word most like the unknown one.
fn guess(message: &str) -> Option<&str> {
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?.to_ascii_lowercase();
    quoted
        .map(|known| (strsim::normalized_damerau_levenshtein(&unknown, known), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
