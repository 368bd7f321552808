//! A host on the lab's wire, and the addresses that follow from its number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::Namespace;

/// The interface of a host on the wire; all but some balancers have no other next to `lo`.
pub(super) const INTERFACE: &str = "eth0";
/// The interface of a balancer that reaches its backends by another than its clients.
pub(super) const SECOND_INTERFACE: &str = "eth1";

/// One of the two networks on the wire. The balancer is on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// 10.0.0.0/24 and fd00::/64: balancer and backends.
    Server,
    /// 10.1.0.0/24 and fd01::/64: balancer and clients.
    Client,
}

impl Network {
    pub(super) const fn ipv4(self, number: HostNumber) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, self.octet(), 0, number.0))
    }

    pub(super) const fn ipv6(self, number: HostNumber) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(
            0xfd00 | self.octet() as u16,
            0,
            0,
            0,
            0,
            0,
            0,
            number.0 as u16,
        ))
    }

    /// The host's address on this network, of the same family as `like`.
    pub(super) const fn like(self, number: HostNumber, like: IpAddr) -> IpAddr {
        if like.is_ipv4() {
            self.ipv4(number)
        } else {
            self.ipv6(number)
        }
    }

    /// The host's addresses of both families with their prefix lengths; of [`HostNumber::NETWORK`], the networks.
    pub(super) const fn addresses(self, number: HostNumber) -> [(IpAddr, u8); 2] {
        [(self.ipv4(number), 24), (self.ipv6(number), 64)]
    }

    const fn octet(self) -> u8 {
        match self {
            Self::Server => 0,
            Self::Client => 1,
        }
    }
}

/// The last byte of a host's IPv4, IPv6 and MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostNumber(u8);

impl HostNumber {
    /// The network itself, for routes.
    pub(super) const NETWORK: Self = Self(0);
    /// The balancer: 10.0.0.1 and fd00::1, 10.1.0.1 and fd01::1.
    pub(super) const BALANCER: Self = Self(1);

    /// The backend with an index from 0: 10.0.0.11, 10.0.0.12 …, fd00::b, fd00::c … `None` beyond 200 backends.
    pub(super) fn backend(index: usize) -> Option<Self> {
        Self::after(11, index)
    }

    /// The client with an index from 0: 10.1.0.11, 10.1.0.12 …, fd01::b, fd01::c … `None` beyond 200 clients.
    pub(super) fn client(index: usize) -> Option<Self> {
        Self::after(11, index)
    }

    fn after(first: u8, index: usize) -> Option<Self> {
        let index = u8::try_from(index).ok().filter(|&index| index < 200)?;
        Some(Self(first + index))
    }
}

/// A host: a namespace with one interface on the wire.
#[derive(Debug, Clone)]
pub struct Host {
    /// `client-1`, `balancer`, `backend-1` …
    pub name: String,
    /// The host's namespace.
    pub namespace: Namespace,
    /// Its address on the wire: of the server network for the balancer.
    pub ipv4: IpAddr,
    /// Its address on the wire: of the server network for the balancer.
    pub ipv6: IpAddr,
    /// The MAC address of [`Host::interface`].
    pub mac: [u8; 6],
    /// The name of the interface of the wire's namespace that leads to this host.
    pub port: String,
}

impl Host {
    pub(super) fn new(name: String, network: Network, number: HostNumber, port: String) -> Result<Self> {
        Ok(Self {
            namespace: Namespace::new(&name)?,
            name,
            ipv4: network.ipv4(number),
            ipv6: network.ipv6(number),
            mac: [0x02, 0, 10, network.octet(), 0, number.0],
            port,
        })
    }

    /// The interface on the wire.
    pub const fn interface(&self) -> &'static str {
        INTERFACE
    }

    /// The address of the same family as `like`.
    pub const fn address_like(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}
