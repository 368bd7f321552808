//! The TCP check: whether a connection is accepted.

#[cfg(feature = "probe")]
mod probe;

use serde::Serialize;

use super::{Asks, Spec};

/// A TCP connection that is accepted counts as success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct TcpCheck;

impl Spec for TcpCheck {
    const ASKS: Asks = Asks::Port;
    const CONNECTS: bool = true;
}
