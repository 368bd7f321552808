//! Traffic of the lab: servers that are processes of their own, so that they can be killed, and clients that are
//! threads inside a namespace.
//!
//! What must hold: every load is bounded in count, rate and time.

pub mod echo;
pub mod http;
pub mod load;
#[cfg(feature = "quic")]
pub mod quic;
pub mod server;
pub mod udp;
