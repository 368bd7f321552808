//! SCTP's chunks, as far as they say where an association begins and ends.

use super::tcp;

/// Length of the common header (RFC 9260 §3.1).
pub const HEADER: usize = 12;

const INIT: u8 = 1;
const ABORT: u8 = 6;
const SHUTDOWN_COMPLETE: u8 = 14;

/// TCP's flags that say about a flow what a packet whose first chunk has that type says about an association.
#[inline(always)]
pub const fn as_tcp_flags(chunk: u8) -> u8 {
    match chunk {
        INIT => tcp::SYN,
        ABORT | SHUTDOWN_COMPLETE => tcp::RST,
        _ => 0,
    }
}
