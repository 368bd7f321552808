//! Translating packets: other addresses and ports, in their headers and in what ICMP errors quote (RFC 3022, RFC 5508).

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{IpProtocol, Ipv6Packet, checksum};

use super::{
    Mistake,
    parse::{Content, Quote},
    rewrite::{Packet, fill_header_sum, refreshed},
};

/// Both ends of a flow, as packets of one direction show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) protocol: IpProtocol,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

impl Ends {
    /// As packets of the other direction show them.
    pub(super) fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..*self
        }
    }
}

/// Where an IP header has the address of that end: 0 is the source, 1 the destination.
fn address_at(v6: bool, end: usize) -> std::ops::Range<usize> {
    let (first, len) = if v6 { (8, 16) } else { (12, 4) };
    first + len * end..first + len * (end + 1)
}

fn write_address(ip: &mut [u8], end: usize, address: IpAddr) {
    let at = address_at(address.is_ipv6(), end);
    match address {
        IpAddr::V4(v4) => ip[at].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => ip[at].copy_from_slice(&v6.octets()),
    }
}

impl Packet<'_> {
    /// Turns a packet with the ends `from` into one with the ends `to`. An ICMP error goes the way of its flow and
    /// quotes a packet that came the other way. `mistake` is one to be made.
    pub(super) fn translate(&mut self, from: &Ends, to: &Ends, mistake: Option<Mistake>) {
        if let Content::Error(quote) = &self.parsed.content {
            self.translate_error(quote, from, to, mistake);
            return;
        }
        let ends = [(from.source, to.source), (from.destination, to.destination)];
        for (end, (old, new)) in ends.into_iter().enumerate() {
            if old != new {
                self.readdress(end, new, mistake);
            }
        }
    }

    /// Gives one end another address and port; `end` is 0 for the source, 1 for the destination.
    fn readdress(&mut self, end: usize, to: SocketAddr, mistake: Option<Mistake>) {
        let old = self.bytes.clone();
        self.change_header(|ip| write_address(ip, end, to.ip()));
        if matches!(self.parsed.content, Content::Later) {
            return;
        }
        let at = self.parsed.transport;
        let field = match self.parsed.protocol {
            IpProtocol::Tcp => at + 16,
            IpProtocol::Udp => at + 6,
            // SCTP's checksum covers the ports, so they stay.
            _ => return,
        };
        self.bytes[at + 2 * end..][..2].copy_from_slice(&to.port().to_be_bytes());
        if mistake == Some(Mistake::StaleSum) {
            return;
        }
        let stored = u16::from_be_bytes([old[field], old[field + 1]]);
        let is_udp = self.parsed.protocol == IpProtocol::Udp;
        // RFC 768: 0 says that there is none.
        if is_udp && stored == 0 {
            return;
        }
        let [before, after] = [&old, &self.bytes].map(|ip| self.covered(ip, field));
        let (mut value, was_wrong) = refreshed(stored, before, after);
        // Of a fragment nobody can say whether its checksum is right.
        if was_wrong {
            self.loose.push(field);
        }
        if is_udp && value == 0 && mistake != Some(Mistake::ZeroSum) {
            value = 0xffff;
        }
        self.bytes[field..field + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// An ICMP error: its ends, those of the packet that it quotes, and all checksums (RFC 5508 §4).
    fn translate_error(&mut self, quote: &Quote, from: &Ends, to: &Ends, mistake: Option<Mistake>) {
        let (icmp, end) = (self.parsed.transport, self.parsed.len);
        let old = self.bytes.clone();
        // Any router may have sent it; if the flow's source is hidden from the recipient, so is the router.
        let hides = from.source != to.source && mistake != Some(Mistake::VisibleRouter);
        self.change_header(|ip| {
            write_address(ip, 1, to.destination.ip());
            if hides {
                write_address(ip, 0, to.source.ip());
            }
        });
        if mistake != Some(Mistake::StaleQuote) {
            self.translate_quote(quote, &to.reversed(), end);
        }
        let own = u16::from_be_bytes([old[icmp + 2], old[icmp + 3]]);
        let sum = |ip: &[u8]| {
            let mut bytes = ip[icmp..end].to_vec();
            bytes[2..4].fill(0);
            let pseudo = if self.parsed.is_v6() {
                let ip = Ipv6Packet::new_unchecked(ip);
                checksum::pseudo_header_v6(
                    &ip.src_addr(),
                    &ip.dst_addr(),
                    IpProtocol::Icmpv6,
                    (end - icmp) as u32,
                )
            } else {
                0
            };
            checksum::combine(&[pseudo, checksum::data(&bytes)])
        };
        let (value, was_wrong) = refreshed(own, sum(&old), sum(&self.bytes));
        self.bytes[icmp + 2..icmp + 4].copy_from_slice(&value.to_be_bytes());
        if was_wrong {
            self.loose.push(icmp + 2);
        }
    }

    /// The packet that an ICMP error quotes, as far as it is there: up to `end`.
    fn translate_quote(&mut self, quote: &Quote, to: &Ends, end: usize) {
        let (at, transport) = (quote.at, quote.transport);
        let old = self.bytes.clone();
        let v6 = self.parsed.is_v6();
        write_address(&mut self.bytes[at..], 0, to.source.ip());
        write_address(&mut self.bytes[at..], 1, to.destination.ip());
        if !v6 {
            let before = &old[at..];
            let header = usize::from(before[0] & 15) * 4;
            if before.len() >= header && fill_header_sum(before, &mut self.bytes[at..]) {
                self.loose.push(at + 10);
            }
        }
        let field = match quote.protocol {
            IpProtocol::Tcp => transport + 16,
            IpProtocol::Udp => transport + 6,
            _ => return,
        };
        for (end, port) in [to.source.port(), to.destination.port()].into_iter().enumerate() {
            self.bytes[transport + 2 * end..][..2].copy_from_slice(&port.to_be_bytes());
        }
        if field + 2 > end {
            return;
        }
        let stored = u16::from_be_bytes([old[field], old[field + 1]]);
        let is_udp = quote.protocol == IpProtocol::Udp;
        if is_udp && stored == 0 {
            return;
        }
        // Most of what it covers is not quoted: what changed says how.
        let sum = |ip: &[u8]| {
            let addresses = [0, 1].map(|end| checksum::data(&ip[at..][address_at(v6, end)]));
            let ports = checksum::data(&ip[transport..transport + 4]);
            checksum::combine(&[addresses[0], addresses[1], ports])
        };
        let mut value = !checksum::combine(&[!stored, !sum(&old), sum(&self.bytes)]);
        if is_udp && value == 0 {
            value = 0xffff;
        }
        self.bytes[field..field + 2].copy_from_slice(&value.to_be_bytes());
        self.loose.push(field);
    }
}
