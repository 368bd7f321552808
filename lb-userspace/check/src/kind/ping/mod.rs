//! The ping check: whether the host answers an echo request.

#[cfg(feature = "probe")]
mod echo;
#[cfg(feature = "probe")]
mod probe;

use serde::Serialize;

use super::{Asks, Spec};

/// An answer to an ICMP (RFC 792) or ICMPv6 (RFC 4443) echo request counts as success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct PingCheck;

impl Spec for PingCheck {
    const ASKS: Asks = Asks::Host("echo requests have no port");
}

#[cfg(test)]
mod tests {
    use crate::table_tests::assert_refused;

    #[test]
    fn keys_of_ports_and_connections_are_refused() {
        assert_refused(&[
            (
                "type = 'ping'\nport = 1",
                "`port`: does not apply to type = \"ping\": echo requests have no port",
            ),
            (
                "type = 'ping'\nclose = 'fin'",
                "`close`: only applies to type = \"tcp\" and type = \"http\": the others make no connections",
            ),
        ]);
    }
}
