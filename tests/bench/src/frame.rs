//! The frames that the programs under test are fed with.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use etherparse::{PacketBuilder, PacketBuilderStep};
use lb_common::quic::ConnectionId;

/// MAC address of the balancer's interface.
pub(super) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC address of the router that frames come from.
pub(super) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Length of the Ethernet header.
const ETHERNET: usize = 14;
/// The shortest frame on a wire, without its checksum (IEEE 802.3).
const SHORTEST: usize = 60;
const TTL: u8 = 64;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// A segment of an established connection.
    Tcp,
    /// A segment that opens a connection.
    Syn,
    Udp,
    /// A QUIC packet with a short header and that connection ID, or more than it.
    Quic([u8; ConnectionId::MAX_BYTES]),
    /// An ICMP echo request.
    Echo,
}

/// A frame, and where its parts lie.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    pub(super) v6: bool,
    /// Offset of the transport's checksum, where it has to be restored.
    pub(super) changing_checksum: Option<usize>,
}

impl Frame {
    /// A frame from `source` to `destination`, which are of the same family.
    pub(super) fn new(payload: Payload, source: SocketAddr, destination: SocketAddr) -> Result<Self> {
        let ethernet = PacketBuilder::ethernet2(ROUTER_MAC, OWN_MAC);
        let (header, ip) = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (20, ethernet.ipv4(source.octets(), destination.octets(), TTL))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                (40, ethernet.ipv6(source.octets(), destination.octets(), TTL))
            }
            _ => bail!("{source} and {destination} are of different families"),
        };
        Ok(Self {
            bytes: with_payload(ip, payload, ETHERNET + header, source.port(), destination.port())?,
            v6: source.is_ipv6(),
            changing_checksum: None,
        })
    }

    /// Addresses the frame to the host with that MAC address.
    pub(super) fn addressed_to(mut self, mac: [u8; 6]) -> Self {
        self.bytes[..mac.len()].copy_from_slice(&mac);
        self
    }

    /// A TCP frame over IPv4 whose checksum changes with its addresses.
    pub(super) fn translated(self) -> Self {
        const CHECKSUM_AT: usize = ETHERNET + 20 + 16;
        Self {
            changing_checksum: Some(CHECKSUM_AT),
            ..self
        }
    }
}

/// The whole frame; `transport` is where the transport header begins.
fn with_payload(
    ip: PacketBuilderStep<etherparse::IpHeaders>,
    payload: Payload,
    transport: usize,
    source: u16,
    destination: u16,
) -> Result<Vec<u8>> {
    const WINDOW: u16 = 8192;
    let mut bytes = Vec::new();
    let data = |header: usize| vec![0; SHORTEST.saturating_sub(transport + header)];
    match payload {
        Payload::Tcp => ip
            .tcp(source, destination, 1, WINDOW)
            .ack(1)
            .write(&mut bytes, &data(20))?,
        Payload::Syn => ip
            .tcp(source, destination, 1, WINDOW)
            .syn()
            .write(&mut bytes, &data(20))?,
        Payload::Udp => ip.udp(source, destination).write(&mut bytes, &data(8))?,
        Payload::Quic(cid) => {
            const SHORT: u8 = 0x40;
            let quic = [&[SHORT], &cid[..]].concat();
            ip.udp(source, destination).write(&mut bytes, &quic)?;
        }
        Payload::Echo => ip.icmpv4_echo_request(1, 1).write(&mut bytes, &data(8))?,
    }
    Ok(bytes)
}
