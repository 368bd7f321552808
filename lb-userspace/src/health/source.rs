//! The address that checks come from, which is never a VIP: the backend owns that, too, and would answer itself.
//!
//! Invariant: the kernel chooses (RFC 6724, or the route's own source), unless it would choose a VIP. Then it is the
//! best of this host's other addresses.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Socket, Type};

use lb_core::desired::Prefix;

/// An address of this host, and the interface that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The interface's index.
    pub interface: u32,
    /// Its address.
    pub address: IpAddr,
}

/// This host's addresses, and those that checks must not come from.
#[derive(Clone, Debug, Default)]
pub struct ProbeSources {
    /// The better ones of an interface first.
    own: Vec<OwnAddress>,
    /// VIPs that are one address.
    vips: HashSet<IpAddr>,
    /// VIPs that are more than one address.
    prefixes: Vec<Prefix>,
}

impl ProbeSources {
    /// This host's addresses, and all VIPs.
    pub fn new(own: impl IntoIterator<Item = OwnAddress>, vips: &[Prefix]) -> Self {
        Self {
            own: own.into_iter().collect(),
            vips: vips.iter().filter_map(|vip| vip.host()).collect(),
            prefixes: vips.iter().copied().filter(|vip| vip.host().is_none()).collect(),
        }
    }

    fn is_vip(&self, address: IpAddr) -> bool {
        self.vips.contains(&address) || self.prefixes.iter().any(|vip| vip.contains(address))
    }

    /// What to ask `target` from, the best first; empty where that is the kernel's to choose. It is asked each time: a VIP
    /// may have become an address of this host a moment ago.
    pub(super) fn toward(&self, target: IpAddr, vrf: Option<&str>) -> Vec<IpAddr> {
        if self.vips.is_empty() && self.prefixes.is_empty() {
            return Vec::new();
        }
        match kernels_choice(target, vrf) {
            Ok(choice) => self.instead_of(choice, target),
            // Whatever is wrong, the check will meet it and say so.
            Err(_) => Vec::new(),
        }
    }

    fn instead_of(&self, choice: IpAddr, target: IpAddr) -> Vec<IpAddr> {
        // What this host asks of its own address stays within it.
        if choice == target || !self.is_vip(choice) {
            return Vec::new();
        }
        // The interface that the kernel chose from leads to the target.
        let interface = self
            .own
            .iter()
            .find(|own| own.address == choice)
            .map(|own| own.interface);
        let fits = |own: &&OwnAddress| own.address.is_ipv4() == target.is_ipv4() && !self.is_vip(own.address);
        let mut others: Vec<&OwnAddress> = self.own.iter().filter(fits).collect();
        // Then as RFC 6724 §5, rule 8; equals stay in order.
        others.sort_by_key(|own| {
            let elsewhere = Some(own.interface) != interface;
            (elsewhere, Reverse(common_bits(own.address, target)))
        });
        others.into_iter().map(|own| own.address).collect()
    }
}

/// The source that the kernel would give a packet to `target`.
fn kernels_choice(target: IpAddr, vrf: Option<&str>) -> std::io::Result<IpAddr> {
    // Connecting a datagram socket sends nothing. Any port does.
    let target = SocketAddr::new(target, 9);
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, None)?;
    if let Some(vrf) = vrf {
        socket.bind_device(Some(vrf.as_bytes()))?;
    }
    socket.connect(&target.into())?;
    let local = socket.local_addr()?.as_socket();
    local
        .map(|local| local.ip())
        .ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
}

/// How many bits two addresses of one family begin with in common.
fn common_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn sources(own: &[(u32, &str)], vips: &[&str]) -> ProbeSources {
        let own = own.iter().map(|&(interface, address)| OwnAddress {
            interface,
            address: ip(address),
        });
        let vips: Vec<Prefix> = vips.iter().map(|vip| vip.parse().expect("a prefix")).collect();
        ProbeSources::new(own, &vips)
    }

    #[test]
    fn a_vip_is_replaced_by_the_nearest_address_of_the_same_interface() {
        let sources = sources(
            &[
                (2, "2001:db8:1::1"),
                (2, "2001:db8::1"),
                (2, "2001:db8::80"),
                (3, "2001:db8::12"),
                (2, "10.0.0.1"),
                (2, "10.0.0.80"),
            ],
            &["2001:db8::80", "10.0.0.64/26"],
        );
        let instead = |choice, target| sources.instead_of(ip(choice), ip(target));
        assert_eq!(
            instead("2001:db8::80", "2001:db8::11"),
            [ip("2001:db8::1"), ip("2001:db8:1::1"), ip("2001:db8::12")]
        );
        assert_eq!(instead("10.0.0.80", "10.0.0.11"), [ip("10.0.0.1")]);
        // The kernel's good choice, and what stays within the host, are left alone.
        assert!(instead("2001:db8::1", "2001:db8::11").is_empty());
        assert!(instead("2001:db8::80", "2001:db8::80").is_empty());
    }

    #[test]
    fn a_vip_that_became_an_own_address_a_moment_ago_is_known_for_what_it_is() {
        let sources = sources(&[(3, "2001:db8:3::1"), (2, "2001:db8::1")], &["2001:db8::80"]);
        let instead = sources.instead_of(ip("2001:db8::80"), ip("2001:db8::11"));
        assert_eq!(instead, [ip("2001:db8::1"), ip("2001:db8:3::1")]);
    }

    #[test]
    fn the_kernel_chooses_loopback_for_loopback() {
        for address in ["127.0.0.1", "::1"] {
            let choice = kernels_choice(ip(address), None).expect("loopback");
            assert_eq!(choice, ip(address));
        }
    }
}
