//! What a frame says, as RFC 791, 8200, 768, 9293, 792 and 4443 have it, by smoltcp's eyes.

use std::net::IpAddr;

use lb_common::abi::Reason;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol,
    TcpPacket, UdpPacket,
};

use super::headers::{Header, Walked, ipv4_header, ipv6_header, walk};

/// SCTP, which smoltcp knows by its number only.
pub(crate) const SCTP: IpProtocol = IpProtocol::Unknown(132);
/// EtherTypes of VLAN tags.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const MAX_TAGS: usize = 2;
/// Length of an ICMP header, and of what a quoted transport header shows at least.
const ICMP_HEADER: usize = 8;
const QUOTED: usize = 8;

/// A packet.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    /// Where its IP header begins in the frame.
    pub(crate) at: usize,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ttl: u8,
    /// Length by its IP header.
    pub(crate) len: usize,
    /// The protocol behind all extension headers that could be walked.
    pub(crate) protocol: IpProtocol,
    /// Where that protocol's header begins, in the IP packet.
    pub(crate) transport: usize,
    /// Where it belongs, if it is a fragment.
    pub(crate) piece: Option<Piece>,
    pub(crate) content: Content,
}

/// A fragment's span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) id: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) is_last: bool,
}

/// What is in a packet.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Ports: source and destination. All of TCP's flags.
    Ported { ports: [u16; 2], flags: u8 },
    /// A fragment that is not the first.
    Later,
    /// An echo request that can be answered.
    Echo,
    /// An ICMP error about a packet.
    Error(Quote),
    /// Nothing that could be forwarded.
    Nothing(Reason),
}

/// The packet that an ICMP error quotes.
#[derive(Clone, Debug)]
pub(crate) struct Quote {
    /// Where it begins in the IP packet, and where its transport header does.
    pub(crate) at: usize,
    pub(crate) transport: usize,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: IpProtocol,
    pub(crate) ports: [u16; 2],
}

impl Parsed {
    pub(crate) fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// TCP's flags, as far as they are shown.
    pub(crate) fn flags(&self) -> u8 {
        match self.content {
            Content::Ported { flags, .. } => flags,
            _ => 0,
        }
    }

    pub(crate) fn is_first_fragment(&self) -> bool {
        self.piece.is_some_and(|piece| piece.start == 0)
    }
}

/// What a frame is.
pub(crate) enum Frame {
    NotIp,
    /// It ends before it names a destination.
    Cut,
    Packet(Box<Parsed>),
}

/// Reads a frame.
pub(crate) fn parse(frame: &[u8]) -> Frame {
    let Some((v6, at)) = link(frame) else {
        return Frame::NotIp;
    };
    let bytes = &frame[at..];
    let packet = if v6 { ipv6(bytes) } else { ipv4(bytes) };
    match packet {
        Some(parsed) => Frame::Packet(Box::new(Parsed { at, ..parsed })),
        None => Frame::Cut,
    }
}

/// Whether IPv6 is in the frame rather than IPv4, and where; `None` if neither.
fn link(frame: &[u8]) -> Option<(bool, usize)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let mut ether_type = u16::from(ethernet.ethertype());
    let mut at = EthernetFrame::<&[u8]>::header_len();
    for _ in 0..MAX_TAGS {
        if TAGS.contains(&ether_type) {
            let tag = frame.get(at..at + 4)?;
            ether_type = u16::from_be_bytes([tag[2], tag[3]]);
            at += 4;
        }
    }
    match EthernetProtocol::from(ether_type) {
        EthernetProtocol::Ipv4 => Some((false, at)),
        EthernetProtocol::Ipv6 => Some((true, at)),
        _ => None,
    }
}

fn ipv4(bytes: &[u8]) -> Option<Parsed> {
    let header = ipv4_header(bytes)?;
    let (id, start, more) = header.fragment;
    let fragment = (start != 0 || more).then_some((id, start, more, header.own));
    let walked = header.wrong.map_or(
        Ok(Walked {
            protocol: header.next,
            at: header.own,
            fragment,
        }),
        Err,
    );
    Some(Parsed::of(&header, bytes, walked))
}

fn ipv6(bytes: &[u8]) -> Option<Parsed> {
    let header = ipv6_header(bytes)?;
    let walked = match header.wrong {
        Some(reason) => Err(reason),
        None => walk(bytes, header.next, header.len),
    };
    Some(Parsed::of(&header, bytes, walked))
}

impl Parsed {
    fn of(header: &Header, bytes: &[u8], walked: Result<Walked, Reason>) -> Self {
        let mut parsed = Self {
            at: 0,
            source: header.source,
            destination: header.destination,
            ttl: header.ttl,
            len: header.len,
            protocol: header.next,
            transport: header.own,
            piece: None,
            content: Content::Nothing(Reason::NoService),
        };
        let content = walked.and_then(|walked| {
            parsed.protocol = walked.protocol;
            parsed.transport = walked.at;
            parsed.payload(bytes, walked.fragment)
        });
        parsed.content = content.unwrap_or_else(Content::Nothing);
        parsed
    }

    fn payload(
        &mut self,
        bytes: &[u8],
        fragment: Option<(u32, usize, bool, usize)>,
    ) -> Result<Content, Reason> {
        let is_icmp = self.protocol
            == if self.is_v6() {
                IpProtocol::Icmpv6
            } else {
                IpProtocol::Icmp
            };
        let Some((id, start, more, shared_out)) = fragment else {
            return if is_icmp {
                self.icmp(bytes)
            } else {
                self.ports(bytes)
            };
        };
        if is_icmp {
            // The host puts it together.
            return Err(Reason::NoService);
        }
        let len = self.len - shared_out;
        let piece = Piece {
            id,
            start,
            end: start + len,
            is_last: !more,
        };
        let is_torn = more && !len.is_multiple_of(8);
        if len == 0 || is_torn || piece.end > 0xffff {
            return Err(Reason::BadFragment);
        }
        self.piece = Some(piece);
        let has_ports = matches!(self.protocol, IpProtocol::Tcp | IpProtocol::Udp | SCTP);
        // RFC 8200 §4.5: of IPv6, the first fragment alone says what follows.
        if start > 0 && (has_ports || self.is_v6()) {
            return Ok(Content::Later);
        }
        if !has_ports {
            return Err(Reason::Fragment);
        }
        if self.protocol == IpProtocol::Udp {
            let udp = &bytes[self.transport..self.len];
            if udp.len() < 8 {
                Err(Reason::BadFragment)
            } else {
                let udp = UdpPacket::new_unchecked(udp);
                let ports = [udp.src_port(), udp.dst_port()];
                Ok(Content::Ported { ports, flags: 0 })
            }
        } else {
            self.ports(bytes).map_err(|_| Reason::BadFragment)
        }
    }

    /// TCP, UDP or SCTP of a whole packet, or TCP's or SCTP's first fragment.
    fn ports(&self, bytes: &[u8]) -> Result<Content, Reason> {
        let (frame, packet) = (&bytes[self.transport..], &bytes[self.transport..self.len]);
        match self.protocol {
            IpProtocol::Tcp => {
                if frame.len() < 20 {
                    return Err(Reason::Truncated);
                }
                let tcp = TcpPacket::new_unchecked(frame);
                let header = usize::from(tcp.header_len());
                if header < 20 || header > packet.len() {
                    return Err(Reason::BadHeader);
                }
                let (ports, flags) = ([tcp.src_port(), tcp.dst_port()], frame[13]);
                Ok(Content::Ported { ports, flags })
            }
            IpProtocol::Udp => {
                if frame.len() < 8 {
                    return Err(Reason::Truncated);
                }
                let udp = UdpPacket::new_unchecked(frame);
                let len = usize::from(udp.len());
                if len < 8 || len > packet.len() {
                    return Err(Reason::BadHeader);
                }
                let ports = [udp.src_port(), udp.dst_port()];
                Ok(Content::Ported { ports, flags: 0 })
            }
            SCTP => {
                if packet.len() < 12 {
                    return Err(Reason::Truncated);
                }
                let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
                let ports = [port(0), port(2)];
                // INIT opens, ABORT and SHUTDOWN COMPLETE close (RFC 9260 §3.2).
                let flags = match packet.get(12..16) {
                    Some([1, ..]) => 0x02,
                    Some([6 | 14, ..]) => 0x04,
                    _ => 0,
                };
                Ok(Content::Ported { ports, flags })
            }
            _ => Err(Reason::ExtensionHeader),
        }
    }

    fn icmp(&self, bytes: &[u8]) -> Result<Content, Reason> {
        let packet = &bytes[self.transport..self.len];
        if packet.len() < ICMP_HEADER {
            return Err(Reason::Truncated);
        }
        let (is_error, is_echo, own) = if self.is_v6() {
            let icmp = Icmpv6Packet::new_unchecked(packet);
            let is_error = matches!(
                icmp.msg_type(),
                Icmpv6Message::DstUnreachable
                    | Icmpv6Message::PktTooBig
                    | Icmpv6Message::TimeExceeded
                    | Icmpv6Message::ParamProblem
            );
            (is_error, icmp.msg_type() == Icmpv6Message::EchoRequest, 40)
        } else {
            let icmp = Icmpv4Packet::new_unchecked(packet);
            let is_error = matches!(
                icmp.msg_type(),
                Icmpv4Message::DstUnreachable | Icmpv4Message::TimeExceeded | Icmpv4Message::ParamProblem
            );
            (is_error, icmp.msg_type() == Icmpv4Message::EchoRequest, 20)
        };
        if is_error {
            return self.quote(bytes).map(Content::Error);
        }
        // What would have to be turned around with it is left to the host.
        if is_echo && packet[1] == 0 && self.transport == own {
            return Ok(Content::Echo);
        }
        Err(Reason::NoService)
    }

    fn quote(&self, bytes: &[u8]) -> Result<Quote, Reason> {
        let at = self.transport + ICMP_HEADER;
        let quoted = &bytes[at..self.len];
        let header = if self.is_v6() {
            ipv6_header(quoted)
        } else {
            ipv4_header(quoted)
        };
        let header = header.ok_or(Reason::Truncated)?;
        if header.wrong == Some(Reason::BadHeader) {
            return Err(Reason::BadHeader);
        }
        // An error goes to whom the packet was from (RFC 1122 §3.2.2, RFC 4443 §2.2).
        if header.source != self.destination {
            return Err(Reason::NoService);
        }
        let (protocol, transport, start) = if self.is_v6() {
            let walked = walk(quoted, header.next, quoted.len())?;
            (
                walked.protocol,
                walked.at,
                walked.fragment.map_or(0, |fragment| fragment.1),
            )
        } else {
            (header.next, header.own, header.fragment.1)
        };
        if transport > quoted.len() {
            return Err(Reason::Truncated);
        }
        if start != 0 || !matches!(protocol, IpProtocol::Tcp | IpProtocol::Udp | SCTP) {
            return Err(Reason::NoService);
        }
        let ports = quoted
            .get(transport..transport + QUOTED)
            .ok_or(Reason::Truncated)?;
        let port = |i: usize| u16::from_be_bytes([ports[i], ports[i + 1]]);
        Ok(Quote {
            at,
            transport: at + transport,
            destination: header.destination,
            protocol,
            ports: [port(0), port(2)],
        })
    }
}
