//! The server of the interface `/v1`, on a unix socket.
//!
//! Invariant: every HTTP request is answered with JSON and a fitting status, and nothing a client sends ends the agent.

mod body;
mod error;
mod routes;
mod serve;
mod socket;

pub use serve::serve;
pub use socket::ApiSocket;

#[cfg(test)]
pub(crate) mod tests;
