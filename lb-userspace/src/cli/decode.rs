//! A frame in words, one line for each header.
//!
//! Invariant: any bytes are decoded as far as they make sense, and the last line says where they stop doing so.

use etherparse::{
    IpNumber, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice, TransportSlice, ip_number,
};

/// Headers within headers are followed this deep; our own tunnels need one.
const DEPTH: usize = 3;

/// What `frame` is, outermost header first.
pub(super) fn decoded(frame: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut packet = match LaxSlicedPacket::from_ethernet(frame) {
        Ok(packet) => packet,
        Err(error) => return vec![format!("no Ethernet frame: {error}")],
    };
    for _ in 0..=DEPTH {
        describe(&packet, &mut lines);
        let Some(inner) = inner(&packet) else { break };
        match LaxSlicedPacket::from_ip(inner) {
            Ok(next) => packet = next,
            Err(error) => {
                lines.push(format!("no IP packet within: {error}"));
                break;
            }
        }
    }
    lines
}

/// The IP packet within an IP packet.
fn inner<'a>(packet: &LaxSlicedPacket<'a>) -> Option<&'a [u8]> {
    let payload = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => ip.payload(),
        LaxNetSlice::Ipv6(ip) => ip.payload(),
        LaxNetSlice::Arp(_) => return None,
    };
    matches!(payload.ip_number, ip_number::IPV4 | ip_number::IPV6).then_some(payload.payload)
}

fn describe(packet: &LaxSlicedPacket<'_>, lines: &mut Vec<String>) {
    if let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link {
        let (source, destination) = (mac(ethernet.source()), mac(ethernet.destination()));
        lines.push(format!(
            "Ethernet {source} > {destination}, type {:#06x}",
            ethernet.ether_type().0
        ));
    }
    for extension in &packet.link_exts {
        if let LaxLinkExtSlice::Vlan(vlan) = extension {
            lines.push(format!("VLAN {}", vlan.vlan_identifier().value()));
        }
    }
    lines.extend(packet.net.as_ref().map(network));
    lines.extend(packet.transport.as_ref().map(transport));
    if let Some((error, _)) = &packet.stop_err {
        lines.push(format!("malformed from here on: {error}"));
    }
}

fn network(net: &LaxNetSlice<'_>) -> String {
    match net {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let (source, destination) = (header.source_addr(), header.destination_addr());
            let fragment = match (header.fragments_offset().value(), header.more_fragments()) {
                (0, false) => String::new(),
                (offset, _) => format!(", fragment at {}", u32::from(offset) * 8),
            };
            let (ttl, length, protocol) = (header.ttl(), header.total_len(), ip_protocol(header.protocol()));
            format!("IPv4 {source} > {destination}, {protocol}, TTL {ttl}, {length} bytes{fragment}")
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let (source, destination) = (header.source_addr(), header.destination_addr());
            let fragment = if ip.is_payload_fragmented() {
                ", a fragment"
            } else {
                ""
            };
            let (limit, protocol) = (header.hop_limit(), ip_protocol(ip.payload().ip_number));
            let length = usize::from(header.payload_length()) + header.slice().len();
            format!("IPv6 {source} > {destination}, {protocol}, hop limit {limit}, {length} bytes{fragment}")
        }
        LaxNetSlice::Arp(_) => "ARP".into(),
    }
}

fn transport(transport: &TransportSlice<'_>) -> String {
    match transport {
        TransportSlice::Tcp(tcp) => {
            let (source, destination) = (tcp.source_port(), tcp.destination_port());
            format!(
                "TCP {source} > {destination}, flags {}, {} bytes of payload",
                flags(tcp),
                tcp.payload().len()
            )
        }
        TransportSlice::Udp(udp) => {
            let (source, destination) = (udp.source_port(), udp.destination_port());
            format!(
                "UDP {source} > {destination}, {} bytes of payload",
                udp.payload().len()
            )
        }
        TransportSlice::Icmpv4(icmp) => format!("ICMP type {} code {}", icmp.type_u8(), icmp.code_u8()),
        TransportSlice::Igmp(_) => "IGMP".into(),
        TransportSlice::Icmpv6(icmp) => format!("ICMPv6 type {} code {}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn flags(tcp: &TcpSlice<'_>) -> String {
    let all = [
        (tcp.fin(), 'F'),
        (tcp.syn(), 'S'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.ack(), 'A'),
        (tcp.urg(), 'U'),
    ];
    let set: String = all
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, letter)| letter)
        .collect();
    if set.is_empty() { "none".into() } else { set }
}

fn ip_protocol(number: IpNumber) -> String {
    match number.keyword_str() {
        Some(name) => name.to_owned(),
        None => format!("protocol {}", number.0),
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
