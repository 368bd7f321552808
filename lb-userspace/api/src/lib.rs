//! The agent's interface `/v1` on a unix socket: what it takes, what it answers, and a client for it.
//!
//! Invariant: within `/v1` fields are added, never renamed, retyped or removed. Nothing but this crate and the agent's
//! server knows that it is HTTP and JSON.

pub mod checkpoint;
pub mod client;
mod error;
pub mod packet;
pub mod plan;
pub mod quic;
pub mod view;
mod write;

pub use error::{ErrorBody, ErrorText};
pub use write::Applied;
