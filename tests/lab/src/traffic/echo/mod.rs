//! Long-lived TCP connections that echo: whether a connection lives, and with whom, is seen at any time.
//!
//! A client asks 8 bytes, its number of the question; the server answers with these and its name, in
//! `ANSWER_LEN` bytes. What must hold: a connection that was opened is recorded exactly once, with every answer that
//! was not what it should have been.

mod client;
mod server;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use client::{EchoOptions, Echoes};
pub(super) use server::accept;

use super::load::Failure;

/// The port of echo servers (RFC 862); a server of the lab speaks HTTP on all others.
pub const PORT: u16 = 7;

const QUESTION_LEN: usize = 8;
/// A server's name, filled up with zeros.
const NAME_LEN: usize = 24;
const ANSWER_LEN: usize = QUESTION_LEN + NAME_LEN;

/// What is known of one connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// When the client began to open it.
    pub opened: Instant,
    /// The client's port, once it is open.
    pub port: Option<u16>,
    /// The name of the server that gave the first answer.
    pub server: Option<Arc<str>>,
    /// Answers that were right.
    pub echoes: u64,
    /// When the last of these came.
    pub heard: Option<Instant>,
    /// What the slowest of these took.
    pub slowest: Duration,
    /// When and how it ended; `None` while it lives.
    pub end: Option<(Instant, Result<(), Break>)>,
}

impl Connection {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            port: None,
            server: None,
            echoes: 0,
            heard: None,
            slowest: Duration::ZERO,
            end: None,
        }
    }

    /// When and how it broke, if it did.
    pub fn broken(&self) -> Option<(Instant, &Break)> {
        let (when, end) = self.end.as_ref()?;
        Some((*when, end.as_ref().err()?))
    }

    /// Whether it is open and has had an answer.
    pub const fn lives(&self) -> bool {
        self.end.is_none() && self.echoes > 0
    }
}

/// How a connection broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// It could not be opened.
    #[error("not opened: {0}")]
    Open(Failure),
    /// It was reset or closed, or no answer came in time.
    #[error("{0}")]
    Lost(Failure),
    /// Another server answered than before.
    #[error("answered by {0}")]
    Server(Arc<str>),
    /// The answer to another question came.
    #[error("answer {answer} to question {question}")]
    Sequence {
        /// What was asked.
        question: u64,
        /// What was answered.
        answer: u64,
    },
}
