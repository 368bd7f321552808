//! Packets of every kind that the model knows: for services and for nobody, whole and in fragments, right and damaged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::quic::encode;
use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IteratorRandom, SliceRandom},
};

use super::{
    case::{Case, Change},
    follow::{Exchanges, packet, turned},
    machine::Did,
    world::{OWN, World},
};
use crate::packets::Frame;
use lb_userspace::model::{Protocol, QuicKey};

/// Bytes of a frame that are damaged: headers, and a little more.
const DAMAGED: usize = 130;
/// The shortest frame that the kernel runs a program on.
const MIN_FRAME: usize = 14;
/// The longest that it takes.
const MAX_FRAME: usize = 3300;
/// EtherTypes of VLAN tags.
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const TTLS: [u8; 6] = [64, 64, 255, 2, 1, 0];

/// A reproducible sequence of cases.
pub(super) struct Generator<'w> {
    world: &'w World,
    numbers: StdRng,
    cases: u32,
    exchanges: Exchanges,
}

/// Who talks to whom.
#[derive(Clone, Copy)]
struct Ends {
    client: SocketAddr,
    service: SocketAddr,
    protocol: Protocol,
}

impl<'w> Generator<'w> {
    pub(super) fn new(seed: u64, world: &'w World) -> Self {
        Self {
            world,
            numbers: StdRng::seed_from_u64(seed),
            cases: 0,
            exchanges: Exchanges::default(),
        }
    }

    /// Takes note of what became of packets, for other cases to follow on it; `frames` ends with the packet that did so.
    pub(super) fn note(&mut self, frames: &[Vec<u8>], did: &Did) {
        self.exchanges.note(frames, did);
    }

    /// The next case.
    pub(super) fn case(&mut self) -> Case {
        self.cases = self.cases.wrapping_add(1);
        let frames = match self.numbers.random_range(0..28) {
            0..=6 => {
                let ends = self.ends();
                vec![self.plain(ends).bytes()]
            }
            7 | 8 => vec![self.syn()],
            9 => vec![self.echo()],
            10..=12 => vec![self.error()],
            13 | 14 => vec![self.extended()],
            15..=17 => self.fragments(),
            18 => vec![self.returned()],
            19 => vec![self.other()],
            20 | 21 => vec![self.quic()],
            _ => self.followed(),
        };
        let frames = frames.into_iter().map(|frame| self.tagged(frame)).collect();
        let mut case = Case {
            frames,
            changes: Vec::new(),
        };
        if self.numbers.random_ratio(2, 5) {
            for _ in 0..self.numbers.random_range(1..=3) {
                self.damage(&mut case);
            }
        }
        case
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.numbers.random_ratio(1, n)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.numbers.random_range(0..of.len())]
    }

    /// An address of a client.
    fn client(&mut self, v6: bool) -> IpAddr {
        let kind = self.numbers.random_range(0..8);
        self.client_of(v6, kind)
    }

    /// An address that no client of another case has, so that their fragments do not meet: the kernel forgets them
    /// after a while, and when there are many.
    fn own_client(&mut self, v6: bool) -> IpAddr {
        self.client_of(v6, u8::MAX)
    }

    fn client_of(&mut self, v6: bool, kind: u8) -> IpAddr {
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
    fn regular(&mut self, v6: bool) -> SocketAddr {
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
    fn service(&mut self) -> (SocketAddr, Protocol) {
        use lb_userspace::model::ServicePort;
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

    fn ends(&mut self) -> Ends {
        let (service, protocol) = self.service();
        let client = if self.world.hides(service.ip()) && !self.one_in(12) {
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

    fn packet(&mut self, from: SocketAddr, to: SocketAddr, protocol: Protocol) -> Frame {
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
    fn dressed(&mut self, frame: Frame) -> Frame {
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
        if self.one_in(40) {
            frame.macs[0] = self.pick(&[[0xff; 6], [1, 0, 0x5e, 0, 0, 1]]);
        }
        frame
    }

    fn plain(&mut self, ends: Ends) -> Frame {
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
    fn syn(&mut self) -> Vec<u8> {
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

    fn echo(&mut self) -> Vec<u8> {
        let ends = self.ends();
        let (source, destination) = (ends.client.ip().to_string(), ends.service.ip().to_string());
        let frame = Frame::echo(&source, &destination);
        let len = self.numbers.random_range(4..90);
        let frame = frame.data(&vec![0x77; len]);
        self.dressed(frame).bytes()
    }

    /// An ICMP error about a packet that a service sent, or the host.
    fn error(&mut self) -> Vec<u8> {
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
    fn error_of(&mut self, from: IpAddr, to: IpAddr, quoted: &[u8], header: usize) -> Vec<u8> {
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

    fn quoted_payload(&self, packet: &[u8]) -> usize {
        let header = if packet[0] >> 4 == 4 {
            usize::from(packet[0] & 15) * 4
        } else {
            40
        };
        packet.len() - header
    }

    /// An IPv6 packet with extension headers.
    fn extended(&mut self) -> Vec<u8> {
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
    fn chain(&mut self, first: u8, last: u8) -> (Vec<u8>, u8) {
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

    /// A QUIC packet with a connection ID that some server could have made, or nearly.
    fn quic(&mut self) -> Vec<u8> {
        let routed: Vec<_> = self
            .world
            .pools
            .iter()
            .filter(|pool| pool.service.quic.is_some())
            .collect();
        let pool = routed[self.numbers.random_range(0..routed.len())];
        let configs = pool.service.quic.iter().flat_map(|quic| &quic.configs);
        let Some(config) = configs.choose(&mut self.numbers) else {
            return self.other();
        };
        let backends = &pool.service.backends;
        let named = &backends[self.numbers.random_range(0..backends.len())];
        let mut server_id = named.server_id.as_ref().map_or(vec![], |id| id.bytes().to_vec());
        if self.one_in(6) {
            self.numbers.fill(&mut server_id[..]);
        }
        let mut nonce = vec![0; config.nonce_length.into()];
        self.numbers.fill(&mut nonce[..]);
        let first = config.id << 5 | self.numbers.random::<u8>() & 0x1f;
        let first = if self.one_in(8) {
            self.numbers.random()
        } else {
            first
        };
        let mut cid = self.numbers.random();
        let key = config.key.as_ref().map(QuicKey::bytes);
        let len = encode(first, &server_id, &nonce, key, &mut cid);
        let len = if self.one_in(6) {
            self.numbers.random_range(0..=21)
        } else {
            len
        };
        let mut data = if self.one_in(2) {
            [&[0xc3, 0, 0, 0, 1, len as u8], &cid[..]].concat()
        } else {
            [&[0x43], &cid[..]].concat()
        };
        let more = self.numbers.random_range(0..40);
        data.resize(data.len() + more, 0x51);
        if self.one_in(8) {
            data.truncate(self.numbers.random_range(0..30));
        }
        let vip = pool.vips[self.numbers.random_range(0..pool.vips.len())];
        let port = pool.service.port.exact().map_or(4433, u16::from);
        let service = SocketAddr::new(vip.address(), port);
        let client = SocketAddr::new(self.client(service.is_ipv6()), self.numbers.random());
        let frame = self.packet(client, service, Protocol::Udp).data(&data);
        self.dressed(frame).bytes()
    }

    /// The fragments of a packet, in some order; now and then one twice, or one that overlaps another.
    fn fragments(&mut self) -> Vec<Vec<u8>> {
        let mut ends = self.ends();
        ends.client.set_ip(self.own_client(ends.client.is_ipv6()));
        let mut frame = self.packet(ends.client, ends.service, ends.protocol);
        frame = self.dressed(frame).padding(&[]);
        let len = self.numbers.random_range(30..400);
        if ends.protocol != Protocol::Sctp {
            frame = frame.ip_len(len + 80);
        }
        let whole = frame.bytes();
        let header = whole.len() - self.quoted_payload(&whole[14..]);
        let (headers, payload) = whole.split_at(header);
        self.pieces(headers, payload)
    }

    /// The same of a packet with that payload behind its Ethernet and IP headers.
    fn pieces(&mut self, headers: &[u8], payload: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < payload.len() {
            let room = self.pick(&[8, 16, 24, 40, 64, 128, 256]);
            // First fragments mostly hold the whole header.
            let room = if at == 0 && !self.one_in(8) {
                room.max(24)
            } else {
                room
            };
            let end = (at + room).min(payload.len());
            pieces.push((at, end));
            at = end;
            if pieces.len() == 5 && at < payload.len() {
                pieces.push((at, payload.len()));
                break;
            }
        }
        if self.one_in(4) {
            let (start, end) = self.pick(&pieces);
            let odd = if self.one_in(2) {
                (start, end)
            } else {
                (start / 16 * 8, end)
            };
            pieces.push(odd);
        }
        match self.numbers.random_range(0..4) {
            0 => pieces.shuffle(&mut self.numbers),
            1 => pieces.rotate_left(1),
            _ => {}
        }
        let id = self.numbers.random::<u32>();
        pieces
            .iter()
            .map(|(start, end)| {
                let more = *end < payload.len();
                fragment(headers, &payload[*start..*end], *start, more, id)
            })
            .collect()
    }

    /// What a `nat` backend answers, to a client or to the balancer itself.
    fn returned(&mut self) -> Vec<u8> {
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
        self.dressed(frame).bytes()
    }

    /// What follows on packets that went by: an answer, whole or in fragments, an error about what became of them or about
    /// an answer to them, the next one. All that went before is sent again, so that the case says all.
    fn followed(&mut self) -> Vec<Vec<u8>> {
        let Some(exchange) = self.exchanges.pick(&mut self.numbers).cloned() else {
            return vec![self.other()];
        };
        let mut frames = exchange.frames;
        let last = frames[frames.len() - 1].clone();
        let answer = turned(&exchange.out);
        let next = match self.numbers.random_range(0..10) {
            0..=3 => answer.map(|answer| vec![self.grown(answer)]),
            4 => answer.and_then(|answer| self.in_pieces(&answer)),
            5 | 6 => self.error_about(&exchange.out).map(|error| vec![error]),
            7 | 8 => turned(&last)
                .and_then(|answer| self.error_about(&answer))
                .map(|error| vec![error]),
            _ => Some(vec![last]),
        };
        frames.extend(next.unwrap_or_default());
        frames
    }

    /// With other fields that its recipient sets, now and then.
    fn grown(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let Some(read) = packet(&frame) else { return frame };
        let ip = &mut frame[read.at..];
        let ttl = if self.one_in(6) { self.pick(&TTLS) } else { 64 };
        if read.is_v6() {
            ip[7] = ttl;
        } else {
            let mut header = smoltcp::wire::Ipv4Packet::new_unchecked(&mut *ip);
            header.set_hop_limit(ttl);
            header.fill_checksum();
        }
        frame
    }

    /// A whole packet of some length in fragments.
    fn in_pieces(&mut self, frame: &[u8]) -> Option<Vec<Vec<u8>>> {
        let read = packet(frame)?;
        let payload = frame.get(read.at + read.transport..read.at + read.len)?;
        let is_plain = read.piece.is_none() && read.transport <= 40 && payload.len() >= 24;
        is_plain.then(|| self.pieces(&frame[..read.at + read.transport], payload))
    }

    /// An ICMP error about a packet: from some router, or from whom it was for.
    fn error_about(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let read = packet(frame)?;
        let quoted = frame.get(read.at..read.at + read.len)?;
        let reporter = match (self.one_in(2), read.is_v6()) {
            (true, _) => read.destination,
            (false, false) => Ipv4Addr::new(198, 51, 100, 7).into(),
            (false, true) => Ipv6Addr::new(0x2001, 0xdb8, 0xc, 7, 0, 0, 0, 7).into(),
        };
        Some(self.error_of(reporter, read.source, quoted, read.transport))
    }

    /// For no service: other protocols, not IP, cut off.
    fn other(&mut self) -> Vec<u8> {
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

    /// Behind VLAN tags, now and then.
    fn tagged(&mut self, frame: Vec<u8>) -> Vec<u8> {
        if !self.one_in(5) {
            return frame;
        }
        let count = self.pick(&[1, 1, 2, 2, 3]);
        let tags: Vec<u8> = (0..count)
            .flat_map(|_| {
                let kind = self.pick(&TAGS);
                let vlan: [u8; 2] = self.numbers.random();
                [kind, vlan].concat()
            })
            .collect();
        [&frame[..12], &tags, &frame[12..]].concat()
    }

    /// One change more. The destination stays, since routes are not known of every address, and the net of a source that
    /// answers go to by way of the balancer.
    fn damage(&mut self, case: &mut Case) {
        let which = self.numbers.random_range(0..case.frames.len());
        let frame = &case.frames[which];
        let change = match self.numbers.random_range(0..10) {
            0 => Change::Cut(self.numbers.random_range(MIN_FRAME..=frame.len())),
            1 if frame.len() < MAX_FRAME => Change::Pad(self.numbers.random_range(1..40)),
            _ => {
                let at = self.numbers.random_range(0..frame.len().min(DAMAGED));
                let tags = tags(frame);
                let at_untagged = at.wrapping_sub(tags);
                // The flow of a client that does not exist could be hit by what answers another's.
                let (net, destination) = if frame[12 + tags] == 0x08 {
                    (26..28, 30..34)
                } else {
                    (22..26, 38..54)
                };
                let hides = || packet(frame).is_some_and(|read| self.world.hides(read.destination));
                if destination.contains(&at_untagged) || net.contains(&at_untagged) && hides() {
                    return;
                }
                let byte = frame[at];
                let value = match self.numbers.random_range(0..3) {
                    0 => self.numbers.random(),
                    1 => byte.wrapping_add(self.pick(&[1, 255])),
                    _ => byte ^ 1 << self.numbers.random_range(0..8),
                };
                Change::Byte { at, value }
            }
        };
        case.changes.push((which, change));
    }
}

/// Length of the tags of a frame.
fn tags(frame: &[u8]) -> usize {
    let is_tag = |at: usize| {
        frame
            .get(at..at + 2)
            .is_some_and(|kind| TAGS.iter().any(|tag| tag == kind))
    };
    let mut len = 0;
    while is_tag(12 + len) {
        len += 4;
    }
    len
}

/// A fragment of a packet whose Ethernet and IP headers are `headers`.
fn fragment(headers: &[u8], data: &[u8], start: usize, more: bool, id: u32) -> Vec<u8> {
    let mut frame = headers.to_vec();
    let ip = &mut frame[14..];
    if ip[0] >> 4 == 4 {
        let mut packet = smoltcp::wire::Ipv4Packet::new_unchecked(ip);
        packet.set_total_len((headers.len() - 14 + data.len()) as u16);
        packet.set_ident(id as u16);
        packet.set_dont_frag(false);
        packet.set_more_frags(more);
        packet.set_frag_offset(start as u16);
        packet.fill_checksum();
        return [&frame, data].concat();
    }
    let next = std::mem::replace(&mut ip[6], 44);
    ip[4..6].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
    let word = start as u16 & !7 | u16::from(more);
    let header = [&[next, 0][..], &word.to_be_bytes(), &id.to_be_bytes()].concat();
    [&frame[..], &header, data].concat()
}
