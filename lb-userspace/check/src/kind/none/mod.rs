//! No check.
//!
//! Invariant: there is no [`ProbeTarget`](crate::ProbeTarget) of it, so nothing is ever asked.

#[cfg(feature = "probe")]
mod probe;

use serde::Serialize;

use super::{Asks, Spec};

/// Nothing is asked, and the backend always counts as up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct NoCheck;

impl Spec for NoCheck {
    const ASKS: Asks = Asks::Nobody;
}
