//! Why a check cannot be run.

/// A check that cannot be run: the key at fault and what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct CheckError {
    /// The key as the operator writes it.
    pub key: &'static str,
    /// What is wrong and what was expected.
    pub message: String,
}

impl CheckError {
    pub(crate) fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self {
            key,
            message: message.into(),
        }
    }
}
