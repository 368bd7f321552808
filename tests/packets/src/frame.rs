//! A frame described by what it says, and its bytes.

use std::net::{IpAddr, SocketAddr};

use lb_common::net::SCTP;

/// A MAC address.
pub type Mac = [u8; 6];

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// TCP.
    Tcp {
        /// Source and destination.
        ports: [u16; 2],
        /// Sequence and acknowledgment number.
        numbers: [u32; 2],
        /// The flags' byte.
        flags: u8,
        /// The window.
        window: u16,
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
    /// VLAN tags, the outer first: EtherType, and priority and VLAN.
    pub tags: Vec<[u16; 2]>,
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
    /// IPv6: extension headers, each a protocol number and what follows the next header's.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// The packet's content.
    pub body: Body,
    /// What follows the IP packet in the frame.
    pub padding: Vec<u8>,
}

const CLIENT_SIDE: [Mac; 2] = [[2, 0, 0, 0, 0, 0xaa], [2, 0, 0, 0, 0, 0xcc]];

impl Frame {
    fn new(source: IpAddr, destination: IpAddr, body: Body) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one packet, one family");
        Self {
            macs: CLIENT_SIDE,
            tags: Vec::new(),
            source,
            destination,
            tos: 0,
            ttl: 64,
            label: 0x1234,
            fragment: 0x4000,
            ip_options: Vec::new(),
            extensions: Vec::new(),
            body,
            padding: Vec::new(),
        }
    }

    /// A TCP segment (`ACK`, ten bytes of data) between two sockets, given as text.
    pub fn tcp(source: &str, destination: &str) -> Self {
        let (source, destination) = (socket(source), socket(destination));
        let body = Body::Tcp {
            ports: [source.port(), destination.port()],
            numbers: [0x0102_0304, 0x0506_0708],
            flags: 0x10,
            window: 0xfaf0,
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

    /// An SCTP packet that begins with a chunk of that type.
    pub fn sctp(source: &str, destination: &str, chunk: u8) -> Self {
        let (source, destination) = (socket(source), socket(destination));
        let ports = [source.port(), destination.port()].map(u16::to_be_bytes);
        let tag_and_sum = [0xa1, 0xa2, 0xa3, 0xa4, 0xc1, 0xc2, 0xc3, 0xc4];
        let chunk = [chunk, 0, 0, 8, 1, 2, 3, 4];
        let bytes = [&ports.concat()[..], &tag_and_sum, &chunk].concat();
        let body = Body::Raw {
            protocol: SCTP,
            bytes,
        };
        Self::new(source.ip(), destination.ip(), body)
    }

    /// With one more VLAN tag, behind those that are there.
    #[must_use]
    pub fn tag(mut self, ether_type: u16, vlan: u16) -> Self {
        self.tags.push([ether_type, vlan]);
        self
    }

    /// Without VLAN tags.
    #[must_use]
    pub fn untagged(mut self) -> Self {
        self.tags.clear();
        self
    }

    /// IPv6, with one more extension header: its protocol number, and what follows the next header's.
    #[must_use]
    pub fn extension(mut self, protocol: u8, rest: &[u8]) -> Self {
        self.extensions.push((protocol, rest.to_vec()));
        self
    }

    /// IPv6, with a fragment header: an offset in bytes, and whether more fragments follow. [`Frame::label`] is its
    /// identification, too.
    #[must_use]
    pub fn fragment6(self, offset: u16, more: bool) -> Self {
        let id = self.label.to_be_bytes();
        let place = (offset | u16::from(more)).to_be_bytes();
        self.extension(44, &[&[0][..], &place, &id].concat())
    }

    /// The packet in fragments, each with `len` bytes of what the packet carries (a multiple of 8).
    pub fn in_fragments(&self, len: usize) -> Vec<Self> {
        let (protocol, payload) = self.payload();
        let count = payload.len().div_ceil(len);
        let fragment = |(i, bytes): (usize, &[u8])| {
            let body = Body::Raw {
                protocol,
                bytes: bytes.to_vec(),
            };
            let fragment = Self { body, ..self.clone() };
            let (offset, more) = ((i * len) as u16, i + 1 < count);
            if self.source.is_ipv6() {
                fragment.fragment6(offset, more)
            } else {
                fragment.fragment((offset / 8) | (u16::from(more) << 13))
            }
        };
        payload.chunks(len).enumerate().map(fragment).collect()
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

    /// With those TCP sequence and acknowledgment numbers.
    #[must_use]
    pub fn numbers(mut self, sequence: u32, acknowledgment: u32) -> Self {
        if let Body::Tcp { numbers, .. } = &mut self.body {
            *numbers = [sequence, acknowledgment];
        }
        self
    }

    /// With that TCP window.
    #[must_use]
    pub fn window(mut self, new: u16) -> Self {
        if let Body::Tcp { window, .. } = &mut self.body {
            *window = new;
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

    /// Source and destination port of TCP, UDP or SCTP; zeros for anything else.
    pub fn ports(&self) -> [u16; 2] {
        match &self.body {
            Body::Tcp { ports, .. } | Body::Udp { ports, .. } => *ports,
            Body::Raw {
                protocol: SCTP,
                bytes,
            } => [0, 2].map(|at| u16::from_be_bytes([bytes[at], bytes[at + 1]])),
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
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address"))
}

fn socket(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is neither ADDRESS:PORT nor [IPV6]:PORT"))
}

impl From<Frame> for Vec<u8> {
    fn from(frame: Frame) -> Self {
        frame.bytes()
    }
}
