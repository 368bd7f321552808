//! Why a desired state was refused, and at which key of it.

use std::fmt;

/// One step of the way to a value: a key, or the position in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A named key.
    Name(&'static str),
    /// The n-th element of a list, from 0.
    Index(usize),
    /// The n-th backend of a list, from 0, and its name: who did not write the list cannot count in it.
    Backend(usize, String),
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

    /// The path as text for those who see the list, such as `service[0].backend[1].port`; empty when it concerns the whole.
    pub fn key(&self) -> String {
        let mut text = String::new();
        for key in &self.path {
            match key {
                Key::Name(name) if text.is_empty() => text.push_str(name),
                Key::Name(name) => text.extend([".", name]),
                Key::Index(index) | Key::Backend(index, _) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, message } = self;
        let mut joint = "";
        for key in path {
            match key {
                Key::Name(name) => write!(f, "{joint}{name}")?,
                Key::Index(index) => write!(f, "[{index}]")?,
                Key::Backend(_, id) => write!(f, " {id}")?,
            }
            joint = match key {
                Key::Backend(..) => ": ",
                Key::Name(_) | Key::Index(_) => ".",
            };
        }
        let colon = if path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{message}")
    }
}
