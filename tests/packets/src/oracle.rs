//! Second opinions: checksums by another library, and the flow hash written down a second time.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

/// UDP ports of tunnels.
const GUE: u16 = 6080;
const FOU: u16 = 5555;

/// Checks every checksum of a frame, through tunnels: IPv4 header, TCP, UDP (where it has one), ICMP, ICMPv6.
///
/// # Errors
/// The first checksum that is wrong, or what keeps the frame from being parsed.
pub fn check_sums(frame: &[u8]) -> Result<()> {
    let headers = PacketHeaders::from_ethernet_slice(frame).context("no such frame")?;
    check_packet(&headers)
}

fn check_packet(headers: &PacketHeaders<'_>) -> Result<()> {
    let payload = headers.payload.slice();
    let (source, destination) = match &headers.net {
        Some(NetHeaders::Ipv4(ip, _)) => {
            ensure!(
                ip.calc_header_checksum() == ip.header_checksum,
                "IPv4 header checksum is {:#06x}, not {:#06x}",
                ip.header_checksum,
                ip.calc_header_checksum()
            );
            (IpAddr::from(ip.source), IpAddr::from(ip.destination))
        }
        Some(NetHeaders::Ipv6(ip, _)) => (IpAddr::from(ip.source), IpAddr::from(ip.destination)),
        _ => return Ok(()),
    };
    if let Some(transport) = &headers.transport {
        check_transport(transport, source, destination, payload)?;
    }
    match tunnelled(headers)? {
        Some(packet) => {
            check_packet(&PacketHeaders::from_ip_slice(packet).context("no packet in the tunnel")?)
        }
        None => Ok(()),
    }
}

/// The packet in the tunnel, if this is one: IP in IP, GRE (RFC 2784), or UDP to a port of GUE or FOU.
fn tunnelled<'p>(headers: &PacketHeaders<'p>) -> Result<Option<&'p [u8]>> {
    let payload = headers.payload.slice();
    let behind = |header: usize| payload.get(header..).context("the tunnel's header is cut off");
    let protocol = match (&headers.net, &headers.transport) {
        (_, Some(TransportHeader::Udp(udp))) if udp.destination_port == GUE => {
            let header = behind(0)?.first_chunk::<4>().context("no GUE header")?;
            ensure!([4, 41].contains(&header[1]), "GUE carries protocol {}", header[1]);
            ensure!(
                [header[0], header[2], header[3]] == [0; 3],
                "flags of GUE: {header:?}"
            );
            return behind(4).map(Some);
        }
        (_, Some(TransportHeader::Udp(udp))) if udp.destination_port == FOU => return behind(0).map(Some),
        (_, Some(_)) => return Ok(None),
        (Some(NetHeaders::Ipv4(ip, _)), None) => ip.protocol.0,
        (Some(NetHeaders::Ipv6(ip, _)), None) => ip.next_header.0,
        _ => return Ok(None),
    };
    match protocol {
        4 | 41 => behind(0).map(Some),
        47 => {
            let header = behind(0)?.first_chunk::<4>().context("no GRE header")?;
            ensure!(
                [[0, 0, 0x08, 0x00], [0, 0, 0x86, 0xdd]].contains(header),
                "GRE header {header:?}"
            );
            behind(4).map(Some)
        }
        _ => Ok(None),
    }
}

fn check_transport(
    transport: &TransportHeader,
    source: IpAddr,
    destination: IpAddr,
    payload: &[u8],
) -> Result<()> {
    let (name, found, expected) = match (transport, source, destination) {
        (TransportHeader::Tcp(tcp), IpAddr::V4(s), IpAddr::V4(d)) => {
            let sum = tcp.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload)?;
            ("TCP", tcp.checksum, sum)
        }
        (TransportHeader::Tcp(tcp), IpAddr::V6(s), IpAddr::V6(d)) => {
            let sum = tcp.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload)?;
            ("TCP", tcp.checksum, sum)
        }
        (TransportHeader::Udp(udp), ..) if udp.checksum == 0 => return Ok(()),
        (TransportHeader::Udp(udp), IpAddr::V4(s), IpAddr::V4(d)) => {
            let sum = udp.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload)?;
            ("UDP", udp.checksum, sum)
        }
        (TransportHeader::Udp(udp), IpAddr::V6(s), IpAddr::V6(d)) => {
            let sum = udp.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload)?;
            ("UDP", udp.checksum, sum)
        }
        (TransportHeader::Icmpv6(icmp), IpAddr::V6(s), IpAddr::V6(d)) => {
            let sum = icmp.icmp_type.calc_checksum(s.octets(), d.octets(), payload)?;
            ("ICMPv6", icmp.checksum, sum)
        }
        (TransportHeader::Icmpv4(icmp), ..) => ("ICMP", icmp.checksum, icmp.icmp_type.calc_checksum(payload)),
        _ => return Ok(()),
    };
    ensure!(
        found == expected,
        "{name} checksum is {found:#06x}, not {expected:#06x}"
    );
    Ok(())
}

/// The flow hash, written down a second time. Balancers that share a seed agree only while it stays as it is.
///
/// `ports` are source and destination, both 0 where only the source address counts.
pub fn flow_hash(source: IpAddr, ports: [u16; 2], seed: u64) -> u64 {
    let ports = ports.map(u16::to_be_bytes).concat();
    let ports = u64::from(u32::from_le_bytes([ports[0], ports[1], ports[2], ports[3]]));
    let finish = |word: u64| {
        let x = (word ^ word >> 32 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (x ^ x >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    };
    match source {
        IpAddr::V4(v4) => finish(u64::from(u32::from_le_bytes(v4.octets())) << 32 | ports),
        IpAddr::V6(v6) => {
            let whole = u128::from_le_bytes(v6.octets());
            let head = (whole as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let tail = ((whole >> 64) as u64 ^ ports << 32 ^ ports).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            finish(head ^ head >> 32 ^ tail ^ tail >> 29)
        }
    }
}
