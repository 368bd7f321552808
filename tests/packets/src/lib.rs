//! Packets for tests: described, put together byte by byte, and checked against an independent parser.
//!
//! What must hold here: nothing of lb's own packet code is used, so that its mistakes cannot agree with themselves.

mod assemble;
mod buffer;
mod frame;
mod oracle;

pub use buffer::Buffer;
pub use frame::{Body, Frame, Mac};
pub use oracle::{check_sums, flow_hash};
