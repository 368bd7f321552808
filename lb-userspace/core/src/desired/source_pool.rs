//! Whether there are addresses that a service's `fullnat` backends can be reached from.
//!
//! Invariant: neither a file nor a change brings a service that cannot be served for want of such an address.

use std::net::IpAddr;

use super::{Backend, Forwarder, Invalid, Key, Service};

impl Service {
    /// Each backend reached by `fullnat` has an address of its family in `pool` to be reached from, and neither a VIP nor a
    /// backend is there.
    ///
    /// # Errors
    /// The first backend without one, or the first VIP or backend among them.
    pub fn check_sources(&self, pool: &[IpAddr]) -> Result<(), Invalid> {
        let vips = self.vips.iter().enumerate();
        for (at, vip) in vips {
            if let Some(address) = pool.iter().find(|address| vip.contains(**address)) {
                let message = format!(
                    "{address} is in `fullnat_addresses` of [dataplane]: expected no address of the balancer's own"
                );
                return Err(Invalid::new(message).at(Key::Index(at)).at(Key::Name("vips")));
            }
        }
        let clashes = |backend: &Backend| {
            backend.forwarder_in_use(self) != Forwarder::Local && pool.contains(&backend.address)
        };
        if let Some(at) = self.backends.iter().position(clashes) {
            let address = self.backends[at].address;
            return Err(self.wrong_address(
                at,
                format!(
                    "{address} is in `fullnat_addresses` of [dataplane]: expected another host's address"
                ),
            ));
        }
        let lacks = |backend: &Backend| {
            let family = |address: &IpAddr| address.is_ipv4() == backend.address.is_ipv4();
            backend.forwarder_in_use(self) == Forwarder::Fullnat && !pool.iter().any(family)
        };
        let Some(at) = self.backends.iter().position(lacks) else {
            return Ok(());
        };
        let address = self.backends[at].address;
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let message = format!(
            "{address} is reached by fullnat, from an {family} address of the balancer's own: expected one in \
             `fullnat_addresses` of [dataplane], which the agent reads when it starts"
        );
        Err(self.wrong_address(at, message))
    }

    /// What is wrong with the address of a backend.
    fn wrong_address(&self, at: usize, message: String) -> Invalid {
        Invalid::new(message)
            .at(Key::Name("address"))
            .at(Key::Backend(at, self.backends[at].id().to_string()))
            .at(Key::Name("backend"))
    }
}
