//! Heartbeats: asks backends whether they serve, and says when the answer changes.
//!
//! [`Check`] is what the operator writes, [`Judge`] the arithmetic of rise and fall.

mod check;
mod duration;
mod judge;
mod raw;
mod status;

pub use check::{Check, CheckError, HttpCheck, Kind, Timing};
pub use judge::{Judge, State};
pub use status::{ParseStatusError, StatusRange};
