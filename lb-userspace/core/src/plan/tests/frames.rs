//! Sample packets, and what the pipeline makes of them.

use std::net::IpAddr;

use lb_common::{
    abi::Reason,
    net::{Bytes, TCP, UDP},
    pipeline::{Outcome, Packet, Route, Tables, Wrap, process, wrap},
};

use crate::plan::InMemory;

/// What a sample packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A packet from a client.
    ToService,
    /// A packet from where a nat backend may be.
    FromBackend,
    /// A later fragment of a packet from a client, the first of which was never seen.
    Fragment,
    /// An echo request from a client.
    Echo,
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) kind: Kind,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) ports: [u16; 2],
    /// A TCP SYN.
    pub(super) opens: bool,
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) reason: Reason,
    pub(super) outcome: Outcome,
    pub(super) frame: Vec<u8>,
}

/// By what leaves the balancer; slots and cells may differ.
impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        let egress = self.outcome.egress == other.outcome.egress;
        self.reason == other.reason && egress && self.frame == other.frame
    }
}

impl Sample {
    /// Packets to and from every address and port that services and backends may have, and some others.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (client, subnets) in [
            ("198.51.100.1", ["10.0.0", "10.0.1"]),
            ("2001:db8:c::1", ["2001:db8::", "2001:db8:1::"]),
        ] {
            let dot = if client.contains('.') { "." } else { "" };
            for host in 1..=6 {
                let [vip, backend] = subnets.map(|net| format!("{net}{dot}{host}").parse().unwrap());
                all.extend(Self::about(client.parse().unwrap(), vip, backend));
            }
        }
        all
    }

    fn about(client: IpAddr, vip: IpAddr, backend: IpAddr) -> Vec<Self> {
        let sample = |kind, source, destination, protocol, ports| Self {
            kind,
            source,
            destination,
            protocol,
            ports,
            opens: false,
        };
        let icmp = if vip.is_ipv4() { 1 } else { 58 };
        let mut all = vec![sample(Kind::Echo, client, vip, icmp, [0, 0])];
        for protocol in [TCP, UDP] {
            if vip.is_ipv4() {
                all.push(sample(Kind::Fragment, client, vip, protocol, [1, 80]));
            }
            for port in [80, 443, 999] {
                let clients = [1024, 2048, 3333].map(|from| [from, port]);
                let to_service = clients.map(|ports| sample(Kind::ToService, client, vip, protocol, ports));
                all.extend(to_service);
                if protocol == TCP {
                    all.extend(to_service.map(|sample| Self {
                        opens: true,
                        ..sample
                    }));
                }
                all.push(sample(Kind::FromBackend, backend, client, protocol, [port, 1024]));
            }
        }
        all
    }

    /// What the pipeline does with it.
    pub(super) fn seen(&self, memory: &InMemory) -> Seen {
        let mut buffer = Buffer {
            bytes: [vec![0; Buffer::ROOM], self.frame()].concat(),
            start: Buffer::ROOM,
        };
        let mut outcome = Outcome::UNDECIDED;
        let reason = process(&mut buffer, memory, &mut outcome);
        let frame = buffer.bytes.split_off(buffer.start);
        Seen {
            reason,
            outcome,
            frame,
        }
    }

    pub(super) fn frame(&self) -> Vec<u8> {
        let [from, to] = self.ports.map(u16::to_be_bytes);
        let mut transport = [from, to].concat();
        match self.protocol {
            TCP => {
                let flags = if self.opens { 0x02 } else { 0x10 };
                transport.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0x12, 0x34, 0, 0]);
            }
            UDP => transport.extend([0, 8, 0x12, 0x34]),
            1 => transport = vec![8, 0, 1, 2, 0, 0, 0, 0],
            _ => transport = vec![128, 0, 1, 2, 0, 0, 0, 0],
        }
        let macs = [2; 12];
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [flags, offset] = match self.kind {
                    Kind::Fragment => [0, 16],
                    _ => [0x40, 0],
                };
                let len = 20 + transport.len() as u8;
                let head = [
                    0x45,
                    0,
                    0,
                    len,
                    0,
                    0,
                    flags,
                    offset,
                    64,
                    self.protocol,
                    0xab,
                    0xcd,
                ];
                let addresses = [source.octets(), destination.octets()].concat();
                [&macs[..], &[8, 0], &head, &addresses, &transport].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let head = [0x60, 0, 0, 0, 0, transport.len() as u8, self.protocol, 64];
                let addresses = [source.octets(), destination.octets()].concat();
                [&macs[..], &[0x86, 0xdd], &head, &addresses, &transport].concat()
            }
            _ => unreachable!("a packet has one family"),
        }
    }
}

/// The way to every client.
pub(super) const ROUTE: Route = Route::Hop {
    macs_head: 0x0102_0304_0506_0708,
    macs_tail: 0x0a0b_0c0d,
    egress: 1,
    tags: lb_common::abi::TagsEntry::NONE,
};

struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    const ROOM: usize = 64;
}

impl Bytes for Buffer {
    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.bytes.get(self.start + offset..)?.first_chunk()
    }

    fn view_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(self.start + offset..)?.first_chunk_mut()
    }

    fn grow(&mut self, bytes: i32) -> bool {
        self.start = self
            .start
            .checked_add_signed(-bytes as isize)
            .expect("room for any front");
        true
    }

    fn frame_len(&self) -> usize {
        self.bytes.len() - self.start
    }
}

impl Packet for Buffer {
    fn trim(&mut self, len: usize) -> bool {
        self.bytes.truncate(self.start + len);
        true
    }

    fn wrap<T: Tables>(&mut self, tables: &T, wrap: Wrap) -> Result<(), Reason> {
        wrap::wrap(self, tables, wrap)
    }
}
