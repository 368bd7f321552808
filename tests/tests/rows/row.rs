//! One packet case: what comes in, why it leaves as it does, and what goes out.

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{Placement, Reason};
use lb_core::desired::BackendId;
use lb_packets::{Body, Frame, flow_hash};
use lb_world::{OWN_MAC, ROUTER_MAC, SEED, backend_mac};

use super::service_set::ServiceSet;

/// A client's socket.
pub(crate) const CLIENT4: &str = "198.51.100.50:40000";
/// A client's socket.
pub(crate) const CLIENT6: &str = "[2001:db8:c::50]:40000";

/// A packet case.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) services: ServiceSet,
    pub(crate) input: Vec<u8>,
    pub(crate) reason: Reason,
    pub(crate) output: Vec<u8>,
    /// The backend it goes to or comes from.
    pub(crate) backend: Option<BackendId>,
    /// The flow's hash, where a slot is looked at.
    pub(crate) hash: Option<u64>,
    /// How its backend is found, where that matters.
    pub(crate) placement: Option<Placement>,
    /// Whether it leaves by another interface than it came in by.
    pub(crate) redirected: bool,
    /// Whether it opens a flow though its transport header does not say so.
    pub(crate) opens: bool,
    /// Packets that came before it.
    pub(crate) before: Vec<Vec<u8>>,
}

/// A packet that is dropped or passed, and stays as it is.
pub(crate) fn unsent(name: impl Into<String>, frame: impl Into<Vec<u8>>, reason: Reason) -> Row {
    let input = frame.into();
    Row {
        name: name.into(),
        services: ServiceSet::Full,
        output: input.clone(),
        input,
        reason,
        backend: None,
        hash: None,
        placement: None,
        redirected: false,
        opens: false,
        before: Vec::new(),
    }
}

/// A packet for no service.
pub(crate) fn passed(name: impl Into<String>, frame: impl Into<Vec<u8>>) -> Row {
    unsent(name, frame, Reason::NoService)
}

/// A packet whose destination MAC becomes the backend's.
pub(crate) fn l2dsr(name: &str, frame: &Frame, backend: &str) -> Row {
    let backend = id(backend);
    let output = hop(frame, backend.address).bytes();
    forwarded(name, frame, output, backend)
}

/// A packet that is left to this host, whose services it is for.
pub(crate) fn local(name: &str, frame: &Frame, backend: &str) -> Row {
    Row {
        reason: Reason::Local,
        ..forwarded(name, frame, frame.bytes(), id(backend))
    }
}

/// A packet that is wrapped in an outer header. Its source is the only one that the services have.
pub(crate) fn tunnelled(name: &str, frame: &Frame, backend: &str) -> Row {
    let source = if backend.contains(':') {
        "2001:db8:7::1"
    } else {
        "172.16.0.1"
    };
    tunnelled_from(name, frame, source, backend)
}

/// A packet that is wrapped in an outer header with that source.
pub(crate) fn tunnelled_from(name: &str, frame: &Frame, source: &str, backend: &str) -> Row {
    let backend = id(backend);
    let protocol = if frame.source.is_ipv4() { 4 } else { 41 };
    let inner = frame.clone().ttl(frame.ttl.wrapping_sub(1)).ip_bytes();
    // The flow label follows the flow (RFC 6438); an IPv4 packet that is not to be fragmented needs no identification.
    let label = if backend.address.is_ipv4() {
        0
    } else {
        (hash(frame) >> 8) as u32 & 0xf_ffff
    };
    let outer = Frame::raw(source, &backend.address.to_string(), protocol, &inner)
        .tos(frame.tos)
        .label(label)
        .macs(backend_mac(backend.address), OWN_MAC)
        .padding(&frame.padding);
    forwarded(name, frame, outer.bytes(), backend)
}

/// A packet whose destination becomes the backend; its port too, if `backend` has one.
pub(crate) fn nat(name: &str, frame: &Frame, backend: &str) -> Row {
    let backend = id(backend);
    let port = backend.port.map_or(0, u16::from);
    let output = hop(frame, backend.address).to(backend.address, port).bytes();
    forwarded(name, frame, output, backend)
}

/// An echo request that is answered.
pub(crate) fn answered(name: &str, frame: &Frame) -> Row {
    let mut answer = frame
        .clone()
        .ttl(64)
        .from(frame.destination, 0)
        .to(frame.source, 0);
    answer.macs.reverse();
    if let Body::Icmp { kind, .. } = &mut answer.body {
        kind[0] = if frame.source.is_ipv4() { 0 } else { 129 };
    }
    Row {
        output: answer.bytes(),
        ..unsent(name, frame.clone(), Reason::EchoReply)
    }
}

/// A packet whose sender is told by ICMP that it goes no further: type and code, and the word behind the checksum.
pub(crate) fn told(name: impl Into<String>, frame: &Frame, kind: [u8; 2], word: u32, reason: Reason) -> Row {
    let (source, destination) = (frame.destination.to_string(), frame.source.to_string());
    // RFC 1812 §4.3.2.3 and RFC 4443 §2.4 (c): so much of the packet that every way carries the answer.
    let quoted = if frame.source.is_ipv4() {
        576 - 28
    } else {
        1280 - 48
    };
    let packet = frame.ip_bytes();
    let rest = [&word.to_be_bytes()[..], &packet[..packet.len().min(quoted)]].concat();
    let mut answer = Frame::icmp(&source, &destination, kind, rest)
        .tos(0xc0)
        .label(0)
        .macs(frame.macs[1], frame.macs[0]);
    answer.tags.clone_from(&frame.tags);
    Row {
        output: answer.bytes(),
        ..unsent(name, frame.clone(), reason)
    }
}

/// A packet too big for its way: its sender is told what fits.
pub(crate) fn too_big(name: impl Into<String>, frame: &Frame, fits: usize) -> Row {
    let kind = if frame.source.is_ipv4() { [3, 4] } else { [2, 0] };
    told(name, frame, kind, fits as u32, Reason::TooBigAnswered)
}

/// A packet whose last hop this is: its sender is told.
pub(crate) fn expired(name: impl Into<String>, frame: &Frame) -> Row {
    let kind = if frame.source.is_ipv4() { [11, 0] } else { [3, 0] };
    told(name, frame, kind, 0, Reason::TtlAnswered)
}

/// A backend's answer, whose source becomes the VIP again.
pub(crate) fn returned(name: &str, frame: &Frame, vip: &str, backend: &str) -> Row {
    let vip: SocketAddr = vip.parse().unwrap();
    let output = frame
        .clone()
        .untagged()
        .ttl(frame.ttl - 1)
        .macs(ROUTER_MAC, OWN_MAC)
        .from(vip.ip(), vip.port());
    Row {
        output: output.bytes(),
        backend: Some(id(backend)),
        ..unsent(name, frame.clone(), Reason::Returned)
    }
}

/// A backend's answer that the host's stack is to send: translated, and else as it came.
pub(crate) fn by_host(name: &str, frame: &Frame, vip: &str, backend: &str) -> Row {
    let vip: SocketAddr = vip.parse().unwrap();
    Row {
        output: frame.clone().from(vip.ip(), vip.port()).bytes(),
        backend: Some(id(backend)),
        ..unsent(name, frame.clone(), Reason::ReturnedByHost)
    }
}

/// A packet that goes to `backend` as `output`.
pub(crate) fn forwarded(name: &str, frame: &Frame, output: Vec<u8>, backend: BackendId) -> Row {
    Row {
        output,
        backend: Some(backend),
        hash: Some(hash(frame)),
        ..unsent(name, frame.clone(), Reason::Forwarded)
    }
}

impl Row {
    /// For other services.
    pub(crate) fn within(self, services: ServiceSet) -> Self {
        Self { services, ..self }
    }

    /// With a byte of its data damaged on the way: checksums stay as wrong as they come.
    pub(crate) fn damaged(mut self) -> Self {
        for frame in [&mut self.input, &mut self.output] {
            *frame.last_mut().unwrap() ^= 0x01;
        }
        self
    }

    /// Sent out with those VLAN tags, as they stand in a frame.
    pub(crate) fn tagged(mut self, tags: &[u8]) -> Self {
        const MACS: usize = 12;
        self.output.splice(MACS..MACS, tags.iter().copied());
        self
    }

    /// After other packets.
    pub(crate) fn after(self, frames: &[Frame]) -> Self {
        let before = frames.iter().map(Frame::bytes).collect();
        Self { before, ..self }
    }

    /// Of the flow that `frame` is of.
    pub(crate) fn of_flow(self, frame: &Frame) -> Self {
        let hash = Some(hash(frame));
        Self { hash, ..self }
    }

    /// Sent out of the other interface.
    pub(crate) fn redirected(self) -> Self {
        Self {
            redirected: true,
            ..self
        }
    }
}

/// Where the IP header stands in a frame.
pub(crate) fn ip_start(frame: &[u8]) -> usize {
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    match (is_tag(12), is_tag(16)) {
        (false, _) => 14,
        (true, false) => 18,
        (true, true) => 22,
    }
}

/// The hash of a packet's flow.
pub(crate) fn hash(frame: &Frame) -> u64 {
    flow_hash(frame.source, frame.ports(), SEED)
}

/// One hop further, toward a backend.
fn hop(frame: &Frame, backend: IpAddr) -> Frame {
    frame
        .clone()
        .untagged()
        .ttl(frame.ttl.wrapping_sub(1))
        .macs(backend_mac(backend), OWN_MAC)
}

fn id(backend: &str) -> BackendId {
    backend.parse().unwrap()
}
