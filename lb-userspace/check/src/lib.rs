//! Health checks: what an operator asks for ([`Check`]), of whom ([`ProbeTarget`]), and with the feature `probe` how it
//! is asked ([`Prober`]).
//!
//! When checks run and what their results mean is the agent's. Without the feature the crate is pure, so that the
//! desired state can be read and checked anywhere.

mod check;
mod duration;
#[cfg(feature = "probe")]
mod probe;
mod raw;
mod status;
mod target;

pub use check::{Check, CheckError, Close, HttpCheck, Kind, Timing};
#[cfg(feature = "probe")]
pub use probe::{Miss, Prober};
pub use status::{ParseStatusError, StatusRange};
pub use target::ProbeTarget;
