//! Health checks: what an operator asks for ([`Check`]), of whom ([`ProbeTarget`]), and with the feature `probe` how it
//! is asked ([`Prober`]).
//!
//! When checks run and what their results mean is the agent's. Without the feature the crate is pure, so that the
//! desired state can be read and checked anywhere. A kind of check is a folder of `kind`.

mod check;
mod error;
mod kind;
#[cfg(feature = "probe")]
mod probe;
mod span;
mod table;
#[cfg(test)]
mod table_tests;
mod target;

pub use check::{Check, Close, Timing};
pub use error::CheckError;
pub use kind::*;
#[cfg(feature = "probe")]
pub use probe::{Miss, Prober};
pub use span::{Span, SpanError};
pub use target::ProbeTarget;
