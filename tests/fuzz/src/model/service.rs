//! The service that a packet is for: of those that could mean it, the one that says so most exactly.

use std::net::IpAddr;

use lb_common::abi::Reason;
use lb_core::desired::{Fragments, Protocol, ServicePort};
use lb_core::plan::Pool;
use smoltcp::wire::IpProtocol;

use super::{
    Mistake, Model,
    parse::{Parsed, SCTP},
};

pub(super) fn number(protocol: Protocol) -> IpProtocol {
    match protocol {
        Protocol::Tcp => IpProtocol::Tcp,
        Protocol::Udp => IpProtocol::Udp,
        Protocol::Sctp => SCTP,
    }
}

/// Length of the pool's longest VIP that holds `address`.
pub(super) fn length(pool: &Pool, address: IpAddr) -> Option<u8> {
    let holding = pool.vips.iter().filter(|vip| vip.contains(address));
    holding.map(|vip| vip.length()).max()
}

impl<'w> Model<'w> {
    fn speaking(&self, protocol: IpProtocol) -> impl Iterator<Item = &'w Pool> {
        let pools = self.world.pools.iter();
        pools.filter(move |pool| number(pool.service.protocol) == protocol)
    }

    /// The service of that VIP, protocol and port.
    pub(super) fn service(&self, vip: IpAddr, protocol: IpProtocol, port: u16) -> Option<&'w Pool> {
        let ranges_first = self.errs(Mistake::RangesFirst);
        self.speaking(protocol)
            .filter_map(|pool| {
                let width = match pool.service.port {
                    ServicePort::Exact(exact) => (exact.get() == port).then_some(1),
                    ServicePort::Range(range) => range.contains(port).then(|| {
                        let width = u32::from(range.last().get() - range.first().get()) + 1;
                        if ranges_first { 0 } else { width }
                    }),
                    ServicePort::Any => Some(1 << 16),
                }?;
                Some((u8::MAX - length(pool, vip)?, width, pool))
            })
            .min_by_key(|(wideness, width, _)| (*wideness, *width))
            .map(|(.., pool)| pool)
    }

    /// Finds the service of a fragment whose first one is not known.
    pub(super) fn stray(&self, parsed: &Parsed) -> Result<&'w Pool, Reason> {
        let vip = parsed.destination;
        let longest = self
            .speaking(parsed.protocol)
            .filter_map(|pool| length(pool, vip))
            .max();
        let Some(longest) = longest else {
            let concerns = self.concerns(parsed);
            return Err(if concerns {
                Reason::Fragment
            } else {
                Reason::NoService
            });
        };
        self.speaking(parsed.protocol)
            .find(|pool| length(pool, vip) == Some(longest) && pool.service.fragments == Fragments::Hash3)
            .ok_or(Reason::Fragment)
    }

    /// Whether services have that address.
    pub(super) fn is_vip(&self, address: IpAddr) -> bool {
        self.world
            .pools
            .iter()
            .any(|pool| length(pool, address).is_some())
    }

    /// Whether services have to do with a packet that is broken or shows no ports: if not, it is the host's.
    pub(super) fn concerns(&self, parsed: &Parsed) -> bool {
        let hides = matches!(
            parsed.protocol,
            IpProtocol::HopByHop
                | IpProtocol::Ipv6Route
                | IpProtocol::Ipv6Frag
                | IpProtocol::Ipv6Opts
                | IpProtocol::IpSecAh
        );
        let is_icmp = parsed.protocol
            == if parsed.is_v6() {
                IpProtocol::Icmpv6
            } else {
                IpProtocol::Icmp
            };
        if is_icmp || parsed.is_v6() && hides {
            return self.is_vip(parsed.destination);
        }
        self.speaking(parsed.protocol)
            .any(|pool| length(pool, parsed.destination).is_some())
    }
}
