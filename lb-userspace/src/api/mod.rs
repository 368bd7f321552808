//! The agent's local HTTP and JSON interface on a unix socket, both ends of it.
//!
//! Invariant: every HTTP request is answered with JSON and a fitting status, and nothing a client sends ends the agent.

mod body;
pub mod checkpoint;
pub mod client;
mod error;
pub mod packet;
pub mod plan;
pub mod quic;
mod routes;
mod selection;
mod server;
mod socket;
pub mod view;

pub use server::serve;
pub use socket::{ApiSocket, SocketError};

#[cfg(test)]
pub(crate) mod tests;
