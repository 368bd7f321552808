//! Packets and services that are not the common ones, with real sockets at both ends.

mod permission;
mod wide;

use std::net::IpAddr;

use lb_tests::lab::{Forwarder, Lab};

use super::support::{Service, backend_addresses};

/// A service for each VIP with all backends, by their addresses of the VIP's family.
fn services(lab: &Lab, forwarder: Forwarder, change: impl Fn(Service) -> Service) -> String {
    let vips = lab.options().vips.iter();
    vips.map(|vip| change(service(lab, forwarder, *vip, *vip)).to_string())
        .collect()
}

/// A service for `vip` with all backends, by their addresses of the family of `like`.
fn service(lab: &Lab, forwarder: Forwarder, vip: IpAddr, like: IpAddr) -> Service {
    Service::new(forwarder, &[vip])
        .text("name", if vip.is_ipv4() { "four" } else { "six" })
        .backends(&backend_addresses(lab, like))
}
