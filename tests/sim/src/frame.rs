//! Frames of clients: one buffer for all of them, in which only what differs from flow to flow is changed.
//!
//! What must hold: a frame is a whole one that a client could have sent, but for its checksums, at which the pipeline
//! does not look; and which backend it was sent to is read from the frame that leaves, not asked of anybody.

use std::net::IpAddr;

use anyhow::{Result, bail};
use lb_common::{
    abi::Reason,
    net::Bytes,
    pipeline::{Packet, Tables, Wrap, wrap},
};
use lb_core::desired::Protocol;

use super::hosts::Host;

/// Room for an outer header.
const HEADROOM: usize = 64;
const MOST: usize = 160;
const ETHERNET: usize = 14;

/// What all packets of one family to one service share.
#[derive(Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    v6: bool,
    protocol: Protocol,
}

impl Template {
    pub(super) fn new(vip: IpAddr, port: u16, protocol: Protocol) -> Result<Self> {
        let client = if vip.is_ipv4() {
            "192.0.2.1:1"
        } else {
            "[2001:db8::1]:1"
        };
        let destination = std::net::SocketAddr::new(vip, port).to_string();
        let frame = match protocol {
            Protocol::Tcp => lb_packets::Frame::tcp(client, &destination),
            Protocol::Udp => lb_packets::Frame::udp(client, &destination),
            Protocol::Sctp => bail!("the simulation has no services of sctp"),
        };
        let bytes = frame.bytes();
        if bytes.len() + HEADROOM > MOST {
            bail!("a frame of {} bytes is too long for the simulation", bytes.len());
        }
        Ok(Self {
            bytes,
            v6: vip.is_ipv6(),
            protocol,
        })
    }
}

/// The frame under way.
pub(super) struct Frame {
    bytes: [u8; MOST],
    start: usize,
    end: usize,
}

impl Frame {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; MOST],
            start: HEADROOM,
            end: HEADROOM,
        }
    }

    /// Becomes a packet of the flow with that number: every number stands for another client socket.
    pub(super) fn load(&mut self, template: &Template, socket: u32, tcp_flags: u8) {
        /// Sockets of one client.
        const SOCKETS: u32 = 16;
        let Template { bytes, v6, protocol } = template;
        (self.start, self.end) = (HEADROOM, HEADROOM + bytes.len());
        self.bytes[HEADROOM..self.end].copy_from_slice(bytes);
        let client = socket / SOCKETS;
        let port = 10_000 + (socket % SOCKETS) as u16 * 1021;
        let (source, transport) = if *v6 { (8 + 12, 40) } else { (12, 20) };
        let address = if *v6 { client } else { 0x6440_0000 + client };
        self.store(ETHERNET + source, &address.to_be_bytes());
        self.store(ETHERNET + transport, &port.to_be_bytes());
        if *protocol == Protocol::Tcp {
            self.store(ETHERNET + transport + 13, &[tcp_flags]);
        }
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[HEADROOM + at..][..bytes.len()].copy_from_slice(bytes);
    }

    /// The host that the frame is sent to.
    pub(super) fn host(&self) -> Host {
        Host::of_mac([4, 5].map(|i| self.bytes[self.start + i]))
    }
}

impl Bytes for Frame {
    #[inline(always)]
    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.bytes[self.start..self.end].get(offset..)?.first_chunk()
    }

    #[inline(always)]
    fn view_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.bytes[self.start..self.end]
            .get_mut(offset..)?
            .first_chunk_mut()
    }

    #[inline(always)]
    fn grow(&mut self, bytes: i32) -> bool {
        match self.start.checked_add_signed(-bytes as isize) {
            Some(start) => {
                self.start = start;
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        self.end - self.start
    }
}

impl Packet for Frame {
    fn trim(&mut self, len: usize) -> bool {
        self.end = self.start + len;
        true
    }

    fn wrap<T: Tables>(&mut self, tables: &T, wrap: Wrap) -> Result<(), Reason> {
        wrap::wrap(self, tables, wrap)
    }
}
