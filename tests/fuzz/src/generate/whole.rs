//! Whole packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_core::desired::Protocol;
use lb_packets::Frame;
use rand::Rng;

use super::{Generator, ends::Ends};
use crate::world::OWN;

impl Generator<'_> {
    pub(super) fn plain(&mut self, ends: Ends) -> Frame {
        let frame = self.packet(ends.client, ends.service, ends.protocol);
        let mut frame = self.dressed(frame);
        if self.one_in(5) && ends.protocol != Protocol::Sctp {
            let around = self.pick(&[
                1500, 1480, 1472, 1468, 1460, 1456, 1448, 1440, 600, 576, 580, 556, 1280, 900,
            ]);
            frame = frame.ip_len(around - 2 + self.numbers.random_range(0..4));
        } else if self.one_in(6) && ends.protocol != Protocol::Sctp {
            let len = self.numbers.random_range(0..60);
            frame = frame.data(&vec![0x33; len]);
        }
        frame
    }

    /// A SYN with options, of a service of TCP if one is found soon.
    pub(super) fn syn(&mut self) -> Vec<u8> {
        let mut ends = self.ends();
        for _ in 0..4 {
            if ends.protocol != Protocol::Tcp {
                ends = self.ends();
            }
        }
        let flags = self.pick(&[0x02, 0x02, 0x12, 0x06]);
        let (source, destination) = (ends.client.to_string(), ends.service.to_string());
        let mut options = Vec::new();
        for _ in 0..self.numbers.random_range(0..4) {
            let mss = self.numbers.random_range(500..1500u16).to_be_bytes();
            let option: &[&[u8]] = &[
                &[1],
                &[2, 4, mss[0], mss[1]],
                &[2, 4, 0xff, 0xff],
                &[4, 2],
                &[3, 3, 7],
                &[8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
                &[0],
                &[2, 3, 1],
                &[9, 1],
            ];
            options.extend(self.pick(option));
        }
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let frame = Frame::tcp(&source, &destination)
            .flags(flags)
            .tcp_options(&options);
        self.dressed(frame).bytes()
    }

    pub(super) fn echo(&mut self) -> Vec<u8> {
        let ends = self.ends();
        let (source, destination) = (ends.client.ip().to_string(), ends.service.ip().to_string());
        let frame = Frame::echo(&source, &destination);
        let len = self.numbers.random_range(4..90);
        // The reply to one of zeros is all zero but for its checksum.
        let byte = self.pick(&[0x77, 0xff, 0, 0]);
        let frame = frame.data(&vec![byte; len]);
        self.dressed(frame).bytes()
    }

    /// An ICMP error about a packet that a service sent, or the host.
    pub(super) fn error(&mut self) -> Vec<u8> {
        let ends = self.ends();
        let v6 = ends.client.is_ipv6();
        let quoted = self.packet(ends.service, ends.client, ends.protocol);
        let quoted = self.dressed(quoted).padding(&[]).ip_bytes();
        let header = quoted.len() - self.quoted_payload(&quoted);
        let reporter = if self.one_in(2) {
            ends.client.ip()
        } else {
            self.client(v6)
        };
        self.error_of(reporter, ends.service.ip(), &quoted, header)
    }

    /// An ICMP error about `quoted`, whose transport header begins at `header`.
    pub(super) fn error_of(&mut self, from: IpAddr, to: IpAddr, quoted: &[u8], header: usize) -> Vec<u8> {
        let len = match self.numbers.random_range(0..4) {
            0 => header + 8,
            1 => self.numbers.random_range(0..=quoted.len()),
            _ => quoted.len(),
        };
        let kind = match (to.is_ipv6(), self.numbers.random_range(0..8)) {
            (false, 0) => [11, 0],
            (false, 1) => [12, 0],
            (false, 2) => [5, 1],
            (false, 3) => [3, 4],
            (false, _) => [3, 3],
            (true, 0) => [3, 0],
            (true, 1) => [4, 0],
            (true, 2) => [2, 0],
            (true, 3) => [135, 0],
            (true, _) => [1, 4],
        };
        let rest = [&[0, 0, 5, 0xdc][..], &quoted[..len.min(quoted.len())]].concat();
        let frame = Frame::icmp(&from.to_string(), &to.to_string(), kind, rest);
        self.dressed(frame).bytes()
    }

    /// An IPv6 packet with extension headers.
    pub(super) fn extended(&mut self) -> Vec<u8> {
        let ends = loop {
            let ends = self.ends();
            if ends.client.is_ipv6() {
                break ends;
            }
        };
        let frame = self.plain(ends);
        let whole = frame.clone().padding(&[]).ip_bytes();
        let first = self.pick(&[0u8, 43, 60, 44, 51]);
        let (chain, first) = self.chain(first, whole[6]);
        let body = [&chain[..], &whole[40..]].concat();
        let mut wrapped = Frame::raw(
            &ends.client.ip().to_string(),
            &ends.service.ip().to_string(),
            first,
            &body,
        );
        (wrapped.tos, wrapped.ttl, wrapped.label) = (frame.tos, frame.ttl, frame.label);
        wrapped.padding = frame.padding;
        wrapped.bytes()
    }

    /// Extension headers before `last`, and the number of the first.
    pub(super) fn chain(&mut self, first: u8, last: u8) -> (Vec<u8>, u8) {
        let count = if self.one_in(6) {
            self.numbers.random_range(5..11)
        } else {
            self.numbers.random_range(1..4)
        };
        let mut kinds = vec![first];
        for _ in 1..count {
            let kind = self.pick(&[0u8, 43, 60, 60, 51]);
            kinds.push(kind);
        }
        let mut bytes = Vec::new();
        for (i, kind) in kinds.iter().enumerate() {
            let next = kinds.get(i + 1).copied().unwrap_or(last);
            let units: u8 = if self.one_in(12) {
                self.pick(&[4, 12, 31])
            } else {
                self.numbers.random_range(0..2)
            };
            match kind {
                // An atomic fragment (RFC 6946), mostly.
                44 => {
                    let more = u8::from(self.one_in(5));
                    bytes.extend([next, 0, 0, more, 0, 0, 0, self.cases as u8]);
                }
                51 => {
                    bytes.extend([next, units * 2 + 2]);
                    bytes.resize(bytes.len() + 14 + usize::from(units) * 8, 0x11);
                }
                43 => {
                    let left = u8::from(self.one_in(5));
                    bytes.extend([next, units, 0, left]);
                    bytes.resize(bytes.len() + 4 + usize::from(units) * 8, 0);
                }
                _ => {
                    bytes.extend([next, units, 1, 4]);
                    bytes.resize(bytes.len() + 4 + usize::from(units) * 8, 0);
                }
            }
        }
        (bytes, first)
    }

    /// What a `nat` backend answers, to a client or to the balancer itself.
    pub(super) fn returned(&mut self) -> Vec<u8> {
        let pools: Vec<_> = self
            .world
            .pools
            .iter()
            .filter(|pool| pool.service.splits_by_family())
            .collect();
        let pool = pools[self.numbers.random_range(0..pools.len())];
        let member = &pool.members[self.numbers.random_range(0..pool.members.len())];
        let port = match member.id.port.or(pool.service.port.exact()) {
            Some(port) => port.get(),
            None => self.numbers.random(),
        };
        let port = if self.one_in(8) {
            self.numbers.random()
        } else {
            port
        };
        let backend = SocketAddr::new(member.id.address, port);
        let v6 = backend.is_ipv6();
        let own = OWN[usize::from(v6)];
        let to = if self.one_in(6) {
            own
        } else if v6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, self.cases as u16).into()
        } else {
            Ipv4Addr::from(0x6440_0000 | self.cases & 0x3f_ffff).into()
        };
        let client = SocketAddr::new(to, self.numbers.random());
        let frame = self.packet(backend, client, pool.service.protocol);
        let frame = self.dressed(frame);
        let is_long = self.one_in(6) && pool.service.protocol != Protocol::Sctp;
        if is_long {
            // Around what the ways to clients carry.
            let len = self.pick(&[1400, 1500]) - 1 + self.numbers.random_range(0..3);
            return frame.ip_len(len).bytes();
        }
        frame.bytes()
    }

    /// For no service: other protocols, not IP, cut off.
    pub(super) fn other(&mut self) -> Vec<u8> {
        let ends = self.ends();
        let (source, destination) = (ends.client.ip().to_string(), ends.service.ip().to_string());
        let protocol = self.pick(&[47, 50, 59, 2, 89, 4, 41, 44, 0, 255]);
        let len = self.numbers.random_range(0..40);
        let frame = self.dressed(Frame::raw(&source, &destination, protocol, &vec![0x42; len]));
        let mut bytes = frame.bytes();
        if self.one_in(3) {
            let ether_type = self.pick(&[[0x08, 0x06], [0x88, 0xcc], [0x00, 0x26], [0x91, 0x00]]);
            bytes[12..14].copy_from_slice(&ether_type);
        }
        bytes
    }
}
