//! Who talks to whom, and in what headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_core::desired::{Protocol, ServicePort};
use lb_packets::Frame;
use lb_world::{UPPER_MAC, VIRTUAL_MAC};
use rand::Rng;

use super::{Generator, TTLS};
use crate::world::is_vip_of_fullnat;

/// Who talks to whom.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) service: SocketAddr,
    pub(super) protocol: Protocol,
}

impl Generator<'_> {
    /// An address of a client.
    pub(super) fn client(&mut self, v6: bool) -> IpAddr {
        let kind = self.numbers.random_range(0..8);
        self.client_of(v6, kind)
    }

    /// An address that no client of another case has, so that their fragments do not meet: the kernel forgets them
    /// after a while, and when there are many.
    pub(super) fn own_client(&mut self, v6: bool) -> IpAddr {
        self.client_of(v6, u8::MAX)
    }

    pub(super) fn client_of(&mut self, v6: bool, kind: u8) -> IpAddr {
        let own = self.cases;
        match (v6, kind) {
            (false, 0) => Ipv4Addr::new(203, 0, 113, own as u8).into(),
            (false, 1) => self
                .pick(&[
                    Ipv4Addr::LOCALHOST,
                    Ipv4Addr::UNSPECIFIED,
                    Ipv4Addr::BROADCAST,
                    Ipv4Addr::new(224, 0, 0, 1),
                ])
                .into(),
            (false, 2 | 3) => Ipv4Addr::from(0x6460_0000 | own & 0x1f_ffff).into(),
            (false, _) => Ipv4Addr::from(0x6440_0000 | own & 0x1f_ffff).into(),
            (true, 0) => self
                .pick(&[
                    Ipv6Addr::LOCALHOST,
                    Ipv6Addr::UNSPECIFIED,
                    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
                ])
                .into(),
            (true, _) => {
                let net = self.numbers.random_range(0..3);
                let (high, low) = ((own >> 16) as u16, own as u16);
                let block = if net == 2 { 0xd } else { 0xc };
                Ipv6Addr::new(0x2001, 0xdb8, block, net, 0, 0, high, low).into()
            }
        }
    }

    /// A client that comes again and again.
    pub(super) fn regular(&mut self, v6: bool) -> SocketAddr {
        let own = self.numbers.random_range(1..20);
        let address: IpAddr = match (v6, own % 3) {
            (false, 0) => Ipv4Addr::new(100, 96, 255, own).into(),
            (false, _) => Ipv4Addr::new(100, 64, 255, own).into(),
            (true, net) => {
                let block = if net == 2 { 0xd } else { 0xc };
                Ipv6Addr::new(0x2001, 0xdb8, block, net.into(), 0, 0, 0xffff, own.into()).into()
            }
        };
        SocketAddr::new(address, 50_000 + u16::from(own))
    }

    /// A service's address, port and protocol, or nearly.
    pub(super) fn service(&mut self) -> (SocketAddr, Protocol) {
        let pools = &self.world.pools;
        let pool = &pools[self.numbers.random_range(0..pools.len())];
        let vip = pool.vips[self.numbers.random_range(0..pool.vips.len())];
        let port = match pool.service.port {
            ServicePort::Exact(port) => port.get(),
            ServicePort::Range(range) => {
                let (first, last) = (range.first().get(), range.last().get());
                let random = self.numbers.random_range(first..=last);
                self.pick(&[first, last, first.wrapping_sub(1), last.wrapping_add(1), random])
            }
            ServicePort::Any => self.numbers.random(),
        };
        let port = if self.one_in(8) {
            self.pick(&[
                80, 53, 443, 1000, 1499, 1500, 1999, 2000, 3000, 3001, 2905, 0, 65_535,
            ])
        } else {
            port
        };
        let address = match (vip.address(), vip.host()) {
            (_, Some(host)) => host,
            (IpAddr::V4(base), None) => {
                let host = self.numbers.random::<u32>() & (u32::MAX >> vip.length());
                Ipv4Addr::from(u32::from(base) | host).into()
            }
            (IpAddr::V6(base), None) => {
                let host = self.numbers.random::<u128>() & (u128::MAX >> vip.length());
                Ipv6Addr::from(u128::from(base) | host).into()
            }
        };
        let address = match address {
            // Just beside it.
            IpAddr::V4(v4) if self.one_in(16) => Ipv4Addr::from(u32::from(v4) ^ 0x80).into(),
            address => address,
        };
        (SocketAddr::new(address, port), pool.service.protocol)
    }

    pub(super) fn ends(&mut self) -> Ends {
        let (service, protocol) = self.service();
        let client = if self.one_in(4) || is_vip_of_fullnat(self.world, service.ip()) && !self.one_in(12) {
            self.regular(service.is_ipv6())
        } else {
            SocketAddr::new(self.client(service.is_ipv6()), self.numbers.random())
        };
        let protocol = if self.one_in(12) {
            self.pick(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
        } else {
            protocol
        };
        Ends {
            client,
            service,
            protocol,
        }
    }

    pub(super) fn packet(&mut self, from: SocketAddr, to: SocketAddr, protocol: Protocol) -> Frame {
        let (source, destination) = (from.to_string(), to.to_string());
        match protocol {
            Protocol::Tcp => {
                let flags = self.pick(&[0x10, 0x02, 0x12, 0x18, 0x11, 0x04, 0x14, 0x00]);
                Frame::tcp(&source, &destination).flags(flags)
            }
            Protocol::Udp if self.one_in(4) => Frame::udp(&source, &destination).unsummed(),
            Protocol::Udp => Frame::udp(&source, &destination),
            Protocol::Sctp => {
                let chunk = self.pick(&[0, 1, 3, 6, 14]);
                let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
                let rest = [0, 0, 0, 7, 0xde, 0xad, 0xbe, 0xef, chunk, 0, 0, 4];
                let (source, destination) = (from.ip().to_string(), to.ip().to_string());
                Frame::raw(&source, &destination, 132, &[&ports[..], &rest].concat())
            }
        }
    }

    /// With the IP header's fields as they happen to be.
    pub(super) fn dressed(&mut self, frame: Frame) -> Frame {
        let mut frame = frame
            .tos(self.numbers.random())
            .label(self.numbers.random::<u16>().into());
        frame.ttl = if self.one_in(8) { self.pick(&TTLS) } else { 64 };
        if frame.source.is_ipv4() && self.one_in(10) {
            frame = frame.ip_options(self.pick(&[
                &[1u8, 1, 1, 0][..],
                &[0x94, 4, 0, 0],
                &[7, 7, 4, 0, 0, 0, 0, 0],
            ]));
        }
        if self.one_in(3) {
            frame.fragment = 0;
        }
        if self.one_in(6) {
            let len = self.pick(&[1, 3, 26]);
            frame = frame.padding(&vec![0x5a; len]);
        }
        if self.one_in(20) {
            frame.macs[0] = self.pick(&[
                [0xff; 6],
                [1, 0, 0x5e, 0, 0, 1],
                [0x33, 0x33, 0, 0, 0, 1],
                [2, 0, 0, 0, 0, 0xbb],
                UPPER_MAC,
                VIRTUAL_MAC,
            ]);
        }
        frame
    }
}
