//! From what a frame says to its bytes.

use std::net::IpAddr;

use lb_common::net::{TCP, UDP};

use super::frame::{Body, Frame};

impl Frame {
    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let ether_type: u16 = if self.source.is_ipv4() { 0x0800 } else { 0x86dd };
        let tags: Vec<u8> = self
            .tags
            .iter()
            .flatten()
            .flat_map(|word| word.to_be_bytes())
            .collect();
        [
            &self.macs.concat()[..],
            &tags,
            &ether_type.to_be_bytes(),
            &self.ip_bytes(),
            &self.padding,
        ]
        .concat()
    }

    /// What the IP header and extension headers are followed by.
    pub fn payload_bytes(&self) -> Vec<u8> {
        self.payload().1
    }

    /// The IP packet.
    pub fn ip_bytes(&self) -> Vec<u8> {
        let (protocol, payload) = self.payload();
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.source, self.destination) else {
            let (first, extensions) = self.extension_headers(protocol);
            let payload = [extensions, payload].concat();
            return [self.ip6_header(first, payload.len()), payload].concat();
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

    /// The first next header, and all extension headers.
    fn extension_headers(&self, protocol: u8) -> (u8, Vec<u8>) {
        let mut bytes = Vec::new();
        let next = self
            .extensions
            .iter()
            .skip(1)
            .map(|(next, _)| *next)
            .chain([protocol]);
        for ((_, rest), next) in self.extensions.iter().zip(next) {
            bytes.push(next);
            bytes.extend(rest);
        }
        (
            self.extensions.first().map_or(protocol, |(first, _)| *first),
            bytes,
        )
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

    pub(super) fn payload(&self) -> (u8, Vec<u8>) {
        match &self.body {
            Body::Raw { protocol, bytes } => (*protocol, bytes.clone()),
            Body::Tcp { .. } => (TCP, self.tcp_bytes()),
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

    fn tcp_bytes(&self) -> Vec<u8> {
        let Body::Tcp {
            ports,
            numbers,
            flags,
            window,
            options,
            data,
        } = &self.body
        else {
            return Vec::new();
        };
        let mut bytes = ports.map(u16::to_be_bytes).concat();
        bytes.extend(numbers.map(u32::to_be_bytes).concat());
        bytes.extend([((20 + options.len()) * 4) as u8, *flags]);
        bytes.extend(window.to_be_bytes());
        bytes.extend([0; 4]);
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
