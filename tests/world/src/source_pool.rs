//! The addresses and ports that `fullnat` backends see.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

/// Addresses and ports that `fullnat` backends see.
#[derive(Clone, Debug)]
pub struct SourcePool {
    /// The addresses, of both families.
    pub addresses: Vec<IpAddr>,
    /// The ports of each address.
    pub ports: RangeInclusive<u16>,
}

impl SourcePool {
    /// How many flows of that family can reach the same port of a backend.
    pub fn capacity(&self, v6: bool) -> usize {
        let addresses = self.addresses.iter().filter(|address| address.is_ipv6() == v6);
        addresses.count() * self.ports.len()
    }

    /// Whether that address and port belong to the pool; a port of 0 stands for any.
    pub fn holds(&self, source: SocketAddr) -> bool {
        self.addresses.contains(&source.ip()) && (source.port() == 0 || self.ports.contains(&source.port()))
    }
}
