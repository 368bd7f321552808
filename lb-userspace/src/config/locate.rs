//! From a key to its place in the file, and back.
//!
//! Invariant: every answer is a span within the text, so that errors can be cut out of it without a further check.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use lb_core::desired::Key;

/// A parsed file with its text.
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    root: &'a DeTable<'a>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, root: &'a DeTable<'a>) -> Self {
        Self { text, root }
    }

    /// Where the value at `path` stands; for a key that is not there, where its table begins.
    pub(super) fn span_of(&self, path: &[Key]) -> Range<usize> {
        let mut span = 0..0;
        let mut table = Some(self.root);
        let mut array = None;
        for key in path {
            let next = match key {
                Key::Name(name) => table
                    .and_then(|t| t.iter().find(|(key, _)| key.get_ref() == name))
                    .map(|(_, value)| value),
                Key::Index(index) | Key::Backend(index, _) => {
                    array.and_then(|a: &'a toml::de::DeArray<'a>| a.get(*index))
                }
            };
            let Some(value) = next else { break };
            span = value.span();
            table = value.get_ref().as_table();
            array = value.get_ref().as_array();
        }
        self.clamped(span)
    }

    /// The key whose name or value is the smallest to hold all of `span`, written `service[0].port`.
    pub(super) fn key_at(&self, span: &Range<usize>) -> String {
        let mut best = (usize::MAX, String::new());
        walk(self.root, "", &mut |found, path| {
            let holds = found.start <= span.start && span.end <= found.end;
            // Of equal spans the later one is the deeper one: a table of one header has its span.
            if holds && found.len() <= best.0 {
                best = (found.len(), path.to_owned());
            }
        });
        best.1
    }

    /// `span` cut to the text and to whole characters.
    pub(super) fn clamped(&self, span: Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(start);
        start..end
    }
}

/// Visits the span of every name and value of `table` with the way to it.
fn walk(table: &DeTable<'_>, path: &str, visit: &mut impl FnMut(&Range<usize>, &str)) {
    for (key, value) in table {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{}", key.get_ref());
        visit(&key.span(), &path);
        visit(&value.span(), &path);
        walk_value(value.get_ref(), &path, visit);
    }
}

fn walk_value(value: &DeValue<'_>, path: &str, visit: &mut impl FnMut(&Range<usize>, &str)) {
    match value {
        DeValue::Table(table) => walk(table, path, visit),
        DeValue::Array(array) => {
            for (i, value) in array.iter().enumerate() {
                let path = format!("{path}[{i}]");
                visit(&value.span(), &path);
                walk_value(value.get_ref(), &path, visit);
            }
        }
        _ => (),
    }
}
