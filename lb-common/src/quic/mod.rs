//! Connection IDs of QUIC that name their server, after draft-ietf-quic-load-balancers-21 ("QUIC-LB").
//!
//! Invariant: nothing here depends on a version of QUIC beyond its invariants (RFC 8999), nor on any bit of a packet's
//! first byte but the highest.

pub mod aes;
mod cid;
mod four_pass;
mod header;

pub use cid::{ConnectionId, Unroutable, config, decode, encode};
pub use header::{Header, header};
