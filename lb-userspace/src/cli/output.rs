//! What a verb ends with: text or JSON on standard output, or a failure with its exit code.
//!
//! Invariant: nothing is printed on standard output before the verb has ended, and a closed pipe ends the program
//! quietly.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use lb_api::client::ClientError;
use lb_core::desired::Invalid;

/// The exit code for bad usage, bad input and a bad configuration.
pub(super) const BAD_INPUT: u8 = 2;

/// What goes to standard output.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Output(Vec<u8>);

impl Output {
    pub(super) fn nothing() -> Self {
        Self(Vec::new())
    }

    pub(super) fn bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Self(text.into_bytes())
    }

    /// `value` as JSON, or else the text.
    pub(super) fn either(
        json: bool,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<Self, Failure> {
        if !json {
            return Ok(Self::text(text()));
        }
        serde_json::to_string_pretty(value)
            .map(Self::text)
            .map_err(|error| Failure::Refused(error.to_string()))
    }

    /// `value` as one line of JSON.
    pub(super) fn json_line(value: &impl Serialize) -> Result<Self, Failure> {
        serde_json::to_string(value)
            .map(Self::text)
            .map_err(|error| Failure::Refused(error.to_string()))
    }

    #[cfg(test)]
    pub(super) fn into_string(self) -> String {
        String::from_utf8(self.0).expect("text")
    }
}

/// Why a verb did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The agent refused, or something failed.
    Refused(String),
    /// What was typed, or a file, is wrong.
    BadInput(String),
    /// A bad input that is described on standard output already.
    Shown(Output),
    /// What was waited for ended in another way than hoped.
    Ended {
        /// The exit code that tells how.
        code: u8,
        /// What there is to say about it on standard output.
        output: Output,
        /// What there is to say on standard error.
        message: String,
    },
    /// No agent.
    NoAgent(String),
    /// The generation has moved.
    Conflict(String),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::BadInput(_) | Self::Shown(_) => BAD_INPUT,
            Self::Ended { code, .. } => *code,
            Self::NoAgent(_) => 3,
            Self::Conflict(_) => 4,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::NoAgent(_) => Self::NoAgent(message),
            ClientError::Conflict(_) => Self::Conflict(message),
            // What would be refused whatever the agent's state is.
            ClientError::Refused { code, .. }
                if matches!(
                    code.as_str(),
                    "config" | "invalid" | "bad_json" | "bad_request" | "too_large"
                ) =>
            {
                Self::BadInput(message)
            }
            ClientError::Refused { .. } | ClientError::Answer(_) => Self::Refused(message),
        }
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::BadInput(invalid.to_string())
    }
}

/// Prints how a verb ended.
pub(super) fn finish(ended: Result<Output, Failure>) -> ExitCode {
    let (output, code) = match ended {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(failure) => {
            let code = ExitCode::from(failure.exit_code());
            match failure {
                Failure::Shown(output) => (output, code),
                Failure::Ended { output, message, .. } => {
                    complain(&message);
                    (output, code)
                }
                Failure::Refused(message)
                | Failure::BadInput(message)
                | Failure::NoAgent(message)
                | Failure::Conflict(message) => {
                    complain(&message);
                    return code;
                }
            }
        }
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(&output.0).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write the output: {error}"));
            ExitCode::FAILURE
        }
        _ => code,
    }
}

fn complain(message: &str) {
    // Nowhere is left to complain when standard error is closed.
    let _ = writeln!(io::stderr(), "lb: {message}");
}
