//! What a client is told when its request was not met: a code for programs and a message for people.
//!
//! Invariant: within `/v1` a code keeps its meaning.

use serde::{Deserialize, Serialize};

/// The body of every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What was wrong.
    pub error: ErrorText,
}

/// What was wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorText {
    /// For programs.
    pub code: String,
    /// For people: what to do.
    pub message: String,
}
