//! A frame described by what it says, and its bytes.

use std::net::{IpAddr, SocketAddr};

/// A MAC address.
pub type Mac = [u8; 6];

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// TCP.
    Tcp {
        /// Source and destination.
        ports: [u16; 2],
        /// The flags' byte.
        flags: u8,
        /// Options; a multiple of four bytes.
        options: Vec<u8>,
        /// What follows the header.
        data: Vec<u8>,
    },
    /// UDP.
    Udp {
        /// Source and destination.
        ports: [u16; 2],
        /// Whether it has a checksum.
        summed: bool,
        /// What follows the header.
        data: Vec<u8>,
    },
    /// ICMP or ICMPv6, by the packet's family.
    Icmp {
        /// Type and code.
        kind: [u8; 2],
        /// What follows the checksum.
        rest: Vec<u8>,
    },
    /// Anything else.
    Raw {
        /// IP protocol or IPv6 next header.
        protocol: u8,
        /// What follows the IP header.
        bytes: Vec<u8>,
    },
}

/// An Ethernet frame with an IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Destination and source MAC.
    pub macs: [Mac; 2],
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Type of service or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4: identification (16 bits). IPv6: flow label (20 bits).
    pub label: u32,
    /// IPv4: flags and fragment offset.
    pub fragment: u16,
    /// IPv4: options; a multiple of four bytes.
    pub ip_options: Vec<u8>,
    /// The packet's content.
    pub body: Body,
    /// What follows the IP packet in the frame.
    pub padding: Vec<u8>,
}

const CLIENT_SIDE: [Mac; 2] = [[2, 0, 0, 0, 0, 0xaa], [2, 0, 0, 0, 0, 0xcc]];
const TCP: u8 = 6;
const UDP: u8 = 17;

impl Frame {
    fn new(source: IpAddr, destination: IpAddr, body: Body) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one packet, one family");
        Self {
            macs: CLIENT_SIDE,
            source,
            destination,
            tos: 0,
            ttl: 64,
            label: 0x1234,
            fragment: 0x4000,
            ip_options: Vec::new(),
            body,
            padding: Vec::new(),
        }
    }

    /// A TCP segment (`ACK`, ten bytes of data) between two sockets, given as text.
    pub fn tcp(source: &str, destination: &str) -> Self {
        let (source, destination) = (socket(source), socket(destination));
        let body = Body::Tcp {
            ports: [source.port(), destination.port()],
            flags: 0x10,
            options: Vec::new(),
            data: b"0123456789".to_vec(),
        };
        Self::new(source.ip(), destination.ip(), body)
    }

    /// A UDP datagram with eleven bytes of data.
    pub fn udp(source: &str, destination: &str) -> Self {
        let (source, destination) = (socket(source), socket(destination));
        let body = Body::Udp {
            ports: [source.port(), destination.port()],
            summed: true,
            data: b"hello there".to_vec(),
        };
        Self::new(source.ip(), destination.ip(), body)
    }

    /// An echo request.
    pub fn echo(source: &str, destination: &str) -> Self {
        let request = if source.contains(':') { 128 } else { 8 };
        let rest = b"\x00\x07\x00\x01ping ping".to_vec();
        Self::icmp(source, destination, [request, 0], rest)
    }

    /// An ICMP or ICMPv6 message.
    pub fn icmp(source: &str, destination: &str, kind: [u8; 2], rest: Vec<u8>) -> Self {
        Self::new(address(source), address(destination), Body::Icmp { kind, rest })
    }

    /// A packet of another protocol.
    pub fn raw(source: &str, destination: &str, protocol: u8, bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self::new(
            address(source),
            address(destination),
            Body::Raw { protocol, bytes },
        )
    }

    /// With that TTL or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// With that identification or flow label.
    #[must_use]
    pub fn label(mut self, label: u32) -> Self {
        self.label = label;
        self
    }

    /// With that type of service or traffic class.
    #[must_use]
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// With those IPv4 options.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self
    }

    /// As an IPv4 fragment: the flags and the offset in units of 8 bytes.
    #[must_use]
    pub fn fragment(mut self, word: u16) -> Self {
        self.fragment = word;
        self
    }

    /// With bytes behind the IP packet.
    #[must_use]
    pub fn padding(mut self, bytes: &[u8]) -> Self {
        self.padding = bytes.to_vec();
        self
    }

    /// With those TCP flags.
    #[must_use]
    pub fn flags(mut self, new: u8) -> Self {
        if let Body::Tcp { flags, .. } = &mut self.body {
            *flags = new;
        }
        self
    }

    /// With those TCP options.
    #[must_use]
    pub fn tcp_options(mut self, new: &[u8]) -> Self {
        if let Body::Tcp { options, .. } = &mut self.body {
            *options = new.to_vec();
        }
        self
    }

    /// Without a UDP checksum.
    #[must_use]
    pub fn unsummed(mut self) -> Self {
        if let Body::Udp { summed, .. } = &mut self.body {
            *summed = false;
        }
        self
    }

    /// With that data behind the transport header.
    #[must_use]
    pub fn data(mut self, new: &[u8]) -> Self {
        match &mut self.body {
            Body::Tcp { data, .. } | Body::Udp { data, .. } => *data = new.to_vec(),
            Body::Icmp { rest, .. } => *rest = new.to_vec(),
            Body::Raw { bytes, .. } => *bytes = new.to_vec(),
        }
        self
    }

    /// With as much data as makes the IP packet `len` bytes long.
    #[must_use]
    pub fn ip_len(self, len: usize) -> Self {
        let empty = self.data(&[]);
        let data = vec![0x5a; len - empty.ip_bytes().len()];
        empty.data(&data)
    }

    /// With other MACs.
    #[must_use]
    pub fn macs(mut self, destination: Mac, source: Mac) -> Self {
        self.macs = [destination, source];
        self
    }

    /// With another source address, and another source port if `port` is not 0.
    #[must_use]
    pub fn from(mut self, address: IpAddr, port: u16) -> Self {
        self.source = address;
        self.set_port(0, port)
    }

    /// With another destination address, and another destination port if `port` is not 0.
    #[must_use]
    pub fn to(mut self, address: IpAddr, port: u16) -> Self {
        self.destination = address;
        self.set_port(1, port)
    }

    /// Source and destination port of TCP or UDP; zeros for anything else.
    pub fn ports(&self) -> [u16; 2] {
        match &self.body {
            Body::Tcp { ports, .. } | Body::Udp { ports, .. } => *ports,
            Body::Icmp { .. } | Body::Raw { .. } => [0, 0],
        }
    }

    fn set_port(mut self, end: usize, port: u16) -> Self {
        if let Body::Tcp { ports, .. } | Body::Udp { ports, .. } = &mut self.body
            && port != 0
        {
            ports[end] = port;
        }
        self
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let ether_type = if self.source.is_ipv4() {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        };
        [
            &self.macs.concat()[..],
            &ether_type,
            &self.ip_bytes(),
            &self.padding,
        ]
        .concat()
    }

    /// The IP packet.
    pub fn ip_bytes(&self) -> Vec<u8> {
        let (protocol, payload) = self.payload();
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.source, self.destination) else {
            return [self.ip6_header(protocol, payload.len()), payload].concat();
        };
        let header_len = 20 + self.ip_options.len();
        let total = (header_len + payload.len()) as u16;
        let mut header = vec![0x40 | (header_len / 4) as u8, self.tos];
        header.extend(total.to_be_bytes());
        header.extend((self.label as u16).to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.ip_options);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum);
        [header, payload].concat()
    }

    fn ip6_header(&self, protocol: u8, payload: usize) -> Vec<u8> {
        let first = 6 << 28 | u32::from(self.tos) << 20 | self.label;
        let mut header = first.to_be_bytes().to_vec();
        header.extend((payload as u16).to_be_bytes());
        header.extend([protocol, self.ttl]);
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        header
    }

    fn payload(&self) -> (u8, Vec<u8>) {
        match &self.body {
            Body::Raw { protocol, bytes } => (*protocol, bytes.clone()),
            Body::Tcp {
                ports,
                flags,
                options,
                data,
            } => (TCP, self.tcp_bytes(*ports, *flags, options, data)),
            Body::Udp { ports, summed, data } => (UDP, self.udp_bytes(*ports, *summed, data)),
            Body::Icmp { kind, rest } if self.source.is_ipv4() => {
                let mut bytes = [&kind[..], &[0, 0], rest].concat();
                let sum = checksum(&[&bytes]);
                bytes[2..4].copy_from_slice(&sum);
                (1, bytes)
            }
            Body::Icmp { kind, rest } => {
                let bytes = [&kind[..], &[0, 0], rest].concat();
                (58, self.summed(58, bytes, 2))
            }
        }
    }

    fn tcp_bytes(&self, [source, destination]: [u16; 2], flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        bytes.extend(*b"\x01\x02\x03\x04\x05\x06\x07\x08");
        bytes.extend([((20 + options.len()) * 4) as u8, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(data);
        self.summed(TCP, bytes, 16)
    }

    fn udp_bytes(&self, [source, destination]: [u16; 2], summed: bool, data: &[u8]) -> Vec<u8> {
        let len = 8 + data.len() as u16;
        let head = [source, destination, len, 0].map(u16::to_be_bytes).concat();
        let mut bytes = [head, data.to_vec()].concat();
        if summed {
            bytes = self.summed(UDP, bytes, 6);
            if bytes[6..8] == [0, 0] {
                bytes[6..8].fill(0xff);
            }
        }
        bytes
    }

    /// Puts the checksum over pseudo header and `bytes` at `at`.
    fn summed(&self, protocol: u8, mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
        let pseudo = [
            octets(self.source),
            octets(self.destination),
            (bytes.len() as u32).to_be_bytes().to_vec(),
            vec![0, 0, 0, protocol],
        ]
        .concat();
        let sum = checksum(&[&pseudo, &bytes]);
        bytes[at..at + 2].copy_from_slice(&sum);
        bytes
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address"))
}

fn socket(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is neither ADDRESS:PORT nor [IPV6]:PORT"))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The Internet checksum by the letter of RFC 1071; every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u64 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

impl From<Frame> for Vec<u8> {
    fn from(frame: Frame) -> Self {
        frame.bytes()
    }
}
