//! Whether the file names what `fullnat` takes its source addresses from.
//!
//! Invariant: a file whose services cannot be served for want of an address is refused.

use super::Dataplane;
use crate::model::{Backend, Forwarder, Invalid, Key, Service};

/// Each backend reached by `fullnat` has an address of its family to be reached from, which is no VIP.
pub(super) fn check(services: &[Service], dataplane: &Dataplane) -> Result<(), Invalid> {
    let pool = &dataplane.fullnat_addresses;
    for (i, service) in services.iter().enumerate() {
        let here = |e: Invalid| e.at(Key::Index(i)).at(Key::Name("service"));
        let vip = |address| service.vips.iter().any(|vip| vip.contains(address));
        if let Some(at) = pool.iter().position(|address| vip(*address)) {
            let message = format!(
                "{} is a VIP of service {}: expected an address of the balancer's own",
                pool[at], service.name
            );
            let path = Invalid::new(message).at(Key::Index(at));
            return Err(path.at(Key::Name("fullnat_addresses")).at(Key::Name("dataplane")));
        }
        let lacks = |backend: &Backend| {
            let family = |address: &std::net::IpAddr| address.is_ipv4() == backend.address.is_ipv4();
            backend.forwarder_in_use(service) == Forwarder::Fullnat && !pool.iter().any(family)
        };
        if let Some(at) = service.backends.iter().position(lacks) {
            let backend = &service.backends[at];
            let family = if backend.address.is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!(
                "{} is reached by fullnat, from an {family} address of the balancer's own: expected one in \
                 `fullnat_addresses` of [dataplane]",
                backend.address
            );
            let path = Invalid::new(message).at(Key::Name("address"));
            return Err(here(path.at(Key::Index(at)).at(Key::Name("backend"))));
        }
    }
    Ok(())
}
