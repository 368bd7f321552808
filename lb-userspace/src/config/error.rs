//! What is wrong with a configuration file, and where.
//!
//! Invariant: the shown part of the file is short and printable, whatever the file holds.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use super::locate::Document;
use lb_core::desired::Invalid;

/// Why a configuration file was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Where in it; absent when it could not be read at all.
    pub place: Option<Box<TextPosition>>,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPosition {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key, such as `service[0].port`; empty when no key was found there.
    pub key: String,
    /// The part of the line that is shown.
    excerpt: String,
    /// Where in the excerpt the caret begins.
    caret: usize,
    /// How many carets.
    carets: usize,
}

impl ConfigError {
    pub(super) fn file(path: &Path, message: String) -> Self {
        Self {
            file: path.to_owned(),
            place: None,
            message,
        }
    }

    pub(super) fn from_toml(path: &Path, document: &Document<'_>, error: &toml::de::Error) -> Self {
        let span = document.clamped(error.span().unwrap_or(0..0));
        let (span, message) = match unquoted(document.text, &span) {
            Some((word, span)) => (span, format!("{word} needs quotes: write \"{word}\"")),
            None => (span, error.message().lines().collect::<Vec<_>>().join(": ")),
        };
        let key = document.key_at(&span);
        let place = TextPosition::new(document.text, span, key);
        Self {
            file: path.to_owned(),
            place: Some(Box::new(place)),
            message,
        }
    }

    pub(super) fn from_rule(path: &Path, document: &Document<'_>, invalid: &Invalid) -> Self {
        let place = TextPosition::new(document.text, document.span_of(&invalid.path), invalid.key());
        Self {
            file: path.to_owned(),
            place: Some(Box::new(place)),
            message: invalid.message.clone(),
        }
    }
}

/// The word at which the parser stopped, if it stands where a value is expected and lacks its quotes, such as `nat` or
/// `10.0.0.5`.
fn unquoted(text: &str, span: &Range<usize>) -> Option<(String, Range<usize>)> {
    let of_word = |c: char| c.is_ascii_alphanumeric() || "._:/-@%".contains(c);
    let line = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
    let before = text[line..span.start].trim_end_matches(of_word);
    if !before.trim_end().ends_with(['=', '[', ',']) || before.contains('#') {
        return None;
    }
    let start = line + before.len();
    let word: String = text[start..].chars().take_while(|c| of_word(*c)).collect();
    let end = start + word.len();
    let goes_on = text[end..].trim_start_matches([' ', '\t']).chars().next();
    let ends = goes_on.is_none_or(|next| ",]}#\r\n".contains(next));
    let is_value = word.is_empty() || format!("x = {word}").parse::<toml::Table>().is_ok();
    (ends && !is_value).then_some((word, start..end))
}

impl TextPosition {
    /// Most characters of a line that are shown.
    const WIDTH: usize = 100;

    fn new(text: &str, span: Range<usize>, key: String) -> Self {
        let start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[..start].matches('\n').count() + 1;
        let before = text[start..span.start].chars().count();
        let skipped = before.saturating_sub(Self::WIDTH / 2);
        let end = text[start..]
            .find(['\n', '\r'])
            .map_or(text.len(), |len| start + len);
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let excerpt: String = text[start..end]
            .chars()
            .skip(skipped)
            .take(Self::WIDTH)
            .map(printable)
            .collect();
        let marked = text[span.start..span.end.min(end).max(span.start)]
            .chars()
            .count();
        let caret = before - skipped;
        let carets = marked.clamp(1, (Self::WIDTH - caret).max(1));
        Self {
            line,
            column: before + 1,
            key,
            excerpt,
            caret,
            carets,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, message } = self;
        let file = file.display();
        let Some(place) = place else {
            return write!(f, "{file}: {message}");
        };
        let TextPosition {
            line,
            column,
            key,
            excerpt,
            caret,
            carets,
        } = place.as_ref();
        let colon = if key.is_empty() { "" } else { ": " };
        writeln!(f, "{file}:{line}:{column}: {key}{colon}{message}")?;
        let margin = line.to_string().len();
        writeln!(f, "{line} | {excerpt}")?;
        write!(f, "{:margin$} | {:caret$}{:^>carets$}", "", "", "")
    }
}

impl std::error::Error for ConfigError {}
