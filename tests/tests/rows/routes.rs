//! The host's routes: what the test's tables answer, and what the kernel is told so that it answers the same.

use std::net::IpAddr;

use lb_common::pipeline::Route;

use super::world::{Interfaces, OWN_MAC, ROUTER_MAC, SMALL};

/// The balancer's own addresses on its front interface.
pub(crate) const OWN: [&str; 2] = ["198.51.100.1", "2001:db8:c::1"];
/// On the front network, but nobody answers there.
pub(crate) const SILENT: [&str; 2] = ["198.51.100.200", "2001:db8:c::200"];
/// Behind the back interface.
pub(crate) const BEHIND_BACK: [&str; 2] = ["203.0.113.9", "2001:db8:ee::9"];
/// Behind a narrow part of the network.
pub(crate) const NARROW: [&str; 2] = ["203.0.113.66", "2001:db8:ee::66"];

/// The route of a packet of `len` bytes to `destination`.
pub(crate) fn route(destination: IpAddr, len: usize, interfaces: Interfaces) -> Route {
    let is = |addresses: [&str; 2]| addresses.iter().any(|a| a.parse() == Ok(destination));
    if is(OWN) {
        return Route::Local;
    }
    if is(SILENT) {
        return Route::None;
    }
    if is(NARROW) && len > narrow_mtu(destination) {
        return Route::TooBig;
    }
    let [r0, r1, r2, r3, r4, r5] = ROUTER_MAC;
    let [o0, o1, o2, o3, o4, o5] = OWN_MAC;
    Route::Hop {
        macs_head: u64::from_ne_bytes([r0, r1, r2, r3, r4, r5, o0, o1]),
        macs_tail: u32::from_ne_bytes([o2, o3, o4, o5]),
        egress: if is(BEHIND_BACK) {
            interfaces.back
        } else {
            interfaces.front
        },
    }
}

/// MTU of the way to [`NARROW`]. IPv6 knows none below 1,280.
pub(crate) fn narrow_mtu(destination: IpAddr) -> usize {
    if destination.is_ipv4() { SMALL } else { 1280 }
}
