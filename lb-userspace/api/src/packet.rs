//! A packet to ask the dataplane about: as a frame in hexadecimal, or described in words.
//!
//! Invariant: a [`Frame`](ExplainRequest::frame) that comes out has a size that the kernel can run a program on.

use std::{fmt, net::IpAddr, str::FromStr};

use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder, TcpHeader};
use serde::{Deserialize, Serialize};

use lb_core::desired::{Invalid, MacAddress};

/// Shortest frame: an Ethernet header; the kernel runs no program on less.
pub const MIN_FRAME: usize = 14;
/// Longest frame: a page less the kernel's head and tail room, and what the dataplane may put in front.
pub const MAX_FRAME: usize = 3400;
/// Which port a client has that was named without one.
pub const CLIENT_PORT: u16 = 40_000;

/// What is asked: exactly one of `frame_hex` and `flow`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// An Ethernet frame without its checksum, in hexadecimal; blanks, colons and a leading `0x` are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_hex: Option<String>,
    /// A packet in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<PacketSpec>,
    /// The interface that it arrives on; the agent's first one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

impl ExplainRequest {
    /// The frame that is asked about.
    ///
    /// # Errors
    /// Why there is none.
    pub fn frame(&self) -> Result<Vec<u8>, Invalid> {
        let frame = match (&self.frame_hex, &self.flow) {
            (Some(hex), None) => from_hex(hex)?,
            (None, Some(flow)) => flow.frame()?,
            _ => return Err(Invalid::new("expected either `frame_hex` or `flow`")),
        };
        if (MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return Ok(frame);
        }
        let message = format!(
            "the frame has {} bytes: expected {MIN_FRAME} to {MAX_FRAME}",
            frame.len()
        );
        Err(Invalid::new(message))
    }

    /// Whether the frame is sent to the MAC of the interface that it arrives on, which only the agent knows.
    pub fn is_for_interface(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.mac.is_none())
    }
}

/// A packet from a client to a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketSpec {
    /// What it is.
    pub protocol: FlowProtocol,
    /// Who sends it.
    pub client: IpAddr,
    /// From which port.
    #[serde(default = "client_port")]
    pub client_port: u16,
    /// The address that it is sent to.
    pub vip: IpAddr,
    /// At which port; `icmp` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip_port: Option<u16>,
    /// The flags of a TCP header.
    #[serde(default)]
    pub flags: TcpFlags,
    /// The size of the whole IP packet in bytes; just its headers where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u16>,
    /// Makes it a QUIC packet with a short header (RFC 9000 §17.3.1), as connections send that are established: the
    /// connection ID that it is sent to. Only for `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<ExplainCid>,
    /// The MAC that its frame is sent to; that of the interface where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
}

fn client_port() -> u16 {
    CLIENT_PORT
}

/// The kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// An echo request ("ping") of the family's ICMP.
    Icmp,
}

impl PacketSpec {
    /// Locally administered addresses that belong to no device. The agent puts the interface's in the place of the latter.
    const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const BALANCER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const TTL: u8 = 64;
    const WINDOW: u16 = 65_535;
    /// The first byte of a QUIC packet with a short header: the fixed bit alone.
    const QUIC_SHORT: u8 = 0x40;

    /// The frame, with good checksums and a payload of zeros, or of a QUIC header and zeros.
    ///
    /// # Errors
    /// What of the description does not fit together.
    pub fn frame(&self) -> Result<Vec<u8>, Invalid> {
        let headers = self.write(0)?;
        let Some(size) = self.size else { return Ok(headers) };
        let least = headers.len() - MIN_FRAME;
        match usize::from(size).checked_sub(least) {
            Some(payload) if usize::from(size) <= MAX_FRAME - MIN_FRAME => self.write(payload),
            _ => {
                let most = MAX_FRAME - MIN_FRAME;
                Err(Invalid::new(format!(
                    "size {size}: expected {least} to {most} bytes for such an IP packet"
                )))
            }
        }
    }

    fn write(&self, payload: usize) -> Result<Vec<u8>, Invalid> {
        let mac = self.mac.map_or(Self::BALANCER_MAC, MacAddress::octets);
        let ethernet = PacketBuilder::ethernet2(Self::CLIENT_MAC, mac);
        let ip = match (self.client, self.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => ethernet.ipv4(client.octets(), vip.octets(), Self::TTL),
            (IpAddr::V6(client), IpAddr::V6(vip)) => ethernet.ipv6(client.octets(), vip.octets(), Self::TTL),
            (client, vip) => {
                return Err(Invalid::new(format!(
                    "{client} and {vip}: expected addresses of the same family"
                )));
            }
        };
        let port = self
            .vip_port
            .ok_or_else(|| Invalid::new(format!("{}: expected a port as well", self.vip)));
        let payload = [self.quic_header()?, vec![0; payload]].concat();
        let mut frame = Vec::new();
        let echo = IcmpEchoHeader {
            id: self.client_port,
            seq: 1,
        };
        match (self.protocol, self.vip) {
            (FlowProtocol::Tcp, _) => ip.tcp_header(self.tcp(port?)).write(&mut frame, &payload),
            (FlowProtocol::Udp, _) => ip.udp(self.client_port, port?).write(&mut frame, &payload),
            (FlowProtocol::Icmp, IpAddr::V4(_)) => ip
                .icmpv4(Icmpv4Type::EchoRequest(echo))
                .write(&mut frame, &payload),
            (FlowProtocol::Icmp, IpAddr::V6(_)) => ip
                .icmpv6(Icmpv6Type::EchoRequest(echo))
                .write(&mut frame, &payload),
        }
        .map_err(|error| Invalid::new(format!("there can be no such packet: {error}")))?;
        Ok(frame)
    }

    /// What a payload begins with: a short header with room for the longest connection ID, or nothing.
    fn quic_header(&self) -> Result<Vec<u8>, Invalid> {
        let Some(ExplainCid(id)) = &self.connection_id else {
            return Ok(Vec::new());
        };
        if self.protocol != FlowProtocol::Udp {
            return Err(Invalid::new("only a udp packet can have a QUIC connection ID"));
        }
        let mut header = [&[Self::QUIC_SHORT], id.as_slice()].concat();
        header.resize(1 + ExplainCid::MAX_BYTES, 0);
        Ok(header)
    }

    fn tcp(&self, port: u16) -> TcpHeader {
        let TcpFlags {
            fin,
            syn,
            rst,
            psh,
            ack,
            urg,
        } = self.flags;
        let header = TcpHeader::new(self.client_port, port, 1, Self::WINDOW);
        TcpHeader {
            fin,
            syn,
            rst,
            psh,
            ack,
            urg,
            ..header
        }
    }
}

/// Flags of a TCP header, written as letters of `FSRPAU`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TcpFlags {
    fin: bool,
    syn: bool,
    rst: bool,
    psh: bool,
    ack: bool,
    urg: bool,
}

impl TcpFlags {
    const NONE: Self = Self {
        fin: false,
        syn: false,
        rst: false,
        psh: false,
        ack: false,
        urg: false,
    };
}

impl Default for TcpFlags {
    /// A connection's first packet.
    fn default() -> Self {
        Self {
            syn: true,
            ..Self::NONE
        }
    }
}

impl FromStr for TcpFlags {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut flags = Self::NONE;
        for letter in text.chars() {
            let flag = match letter.to_ascii_uppercase() {
                'F' => &mut flags.fin,
                'S' => &mut flags.syn,
                'R' => &mut flags.rst,
                'P' => &mut flags.psh,
                'A' => &mut flags.ack,
                'U' => &mut flags.urg,
                _ => {
                    return Err(Invalid::new(format!(
                        "{letter:?}: expected letters of FSRPAU, such as SA"
                    )));
                }
            };
            *flag = true;
        }
        Ok(flags)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fin,
            syn,
            rst,
            psh,
            ack,
            urg,
        } = *self;
        let letters = [
            (fin, 'F'),
            (syn, 'S'),
            (rst, 'R'),
            (psh, 'P'),
            (ack, 'A'),
            (urg, 'U'),
        ];
        f.pad(
            &letters
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, letter)| letter)
                .collect::<String>(),
        )
    }
}

impl TryFrom<String> for TcpFlags {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<TcpFlags> for String {
    fn from(flags: TcpFlags) -> Self {
        flags.to_string()
    }
}

/// A QUIC connection ID, written in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExplainCid(Vec<u8>);

impl ExplainCid {
    /// Of version 1 (RFC 9000 §17.2).
    const MAX_BYTES: usize = 20;
}

impl FromStr for ExplainCid {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = from_hex(text)?;
        if (1..=Self::MAX_BYTES).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        let (most, found) = (Self::MAX_BYTES, bytes.len());
        Err(Invalid::new(format!(
            "expected a connection ID of 1 to {most} bytes, found {found}"
        )))
    }
}

impl TryFrom<String> for ExplainCid {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<ExplainCid> for String {
    fn from(ExplainCid(bytes): ExplainCid) -> Self {
        to_hex(&bytes)
    }
}

/// The bytes that `text` spells; blanks, colons, dashes and a leading `0x` are ignored.
///
/// # Errors
/// The first character that is no hexadecimal digit, or an odd number of digits.
pub fn from_hex(text: &str) -> Result<Vec<u8>, Invalid> {
    let text = text.trim_start();
    let digits: String = text
        .strip_prefix("0x")
        .unwrap_or(text)
        .chars()
        .filter(|c| !c.is_whitespace() && !":-".contains(*c))
        .collect();
    // The crate's own error names bytes, which of other alphabets are parts of a character.
    if let Some(c) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(Invalid::new(format!("{c:?} is no hexadecimal digit")));
    }
    let bytes = hex::decode(digits)
        .map_err(|_| Invalid::new("there is an odd number of hexadecimal digits: half a byte is missing"))?;
    if bytes.len() > MAX_FRAME {
        return Err(Invalid::new(format!("the frame has more than {MAX_FRAME} bytes")));
    }
    Ok(bytes)
}

/// `bytes` in lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
