//! Why a wish was refused, and at which key of it.

use std::fmt;

/// One step of the way to a value: a key, or the position in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A named key.
    Name(&'static str),
    /// The n-th element of a list, from 0.
    Index(usize),
}

/// A value that breaks a rule: where it stands and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// The way to the value, outermost step first; empty when it concerns the whole.
    pub path: Vec<Key>,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Invalid {
    /// A complaint about the value itself; callers add where it stands with [`Invalid::at`].
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            message: message.into(),
        }
    }

    /// Puts one more step in front of the path.
    #[must_use]
    pub fn at(mut self, key: Key) -> Self {
        self.path.insert(0, key);
        self
    }

    /// The path as text, such as `service[0].port`; empty when it concerns the whole.
    pub fn key(&self) -> String {
        let mut text = String::new();
        for key in &self.path {
            match key {
                Key::Name(name) if text.is_empty() => text.push_str(name),
                Key::Name(name) => text.extend([".", name]),
                Key::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, message } = self;
        if path.is_empty() {
            write!(f, "{message}")
        } else {
            write!(f, "{}: {message}", self.key())
        }
    }
}
