//! The `fullnat` forwarder: both ends of a flow translated, there and back, and what becomes of it when no place is free.
//!
//! The pool has one address and one port of each family, so that every flow's place is known: a backend takes one flow.

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{Placement, Reason};
use lb_core::desired::{Forwarder, Service};
use lb_packets::Frame;
use lb_world::{OWN_MAC, ROUTER_MAC, SourcePool, backend_mac};

use super::{
    answers::resets_for,
    quic,
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, expired, forwarded, passed, told},
    service_set::{ServiceSet, service},
};

/// What backends see.
const SOURCES: [&str; 2] = ["10.0.0.200", "2001:db8:b::c8"];
const PORT: u16 = 5000;
/// Routers on the way to the clients, and on the way to the backends.
const OUTSIDE: [&str; 2] = ["198.51.100.7", "2001:db8:c::7"];
const INSIDE: [&str; 2] = ["10.0.0.250", "2001:db8:b::fa"];

/// The pool.
pub(crate) fn source_pool() -> SourcePool {
    SourcePool {
        addresses: SOURCES.iter().map(|address| address.parse().unwrap()).collect(),
        ports: PORT..=PORT,
    }
}

/// The host that a packet to `destination` goes to: all clients of a family are one here.
pub(crate) fn recipient(destination: IpAddr) -> IpAddr {
    let client = |text: &str| text.parse::<SocketAddr>().unwrap().ip();
    match source_pool()
        .addresses
        .iter()
        .position(|address| *address == destination)
    {
        Some(0) => client(C4),
        Some(_) => client(C6),
        None => destination,
    }
}

/// One line a service: name, last byte of its VIPs, protocol, port, backends.
pub(crate) fn services() -> Vec<Service> {
    let full = |name, vip, protocol, port, backends| {
        service(name, vip, protocol, port, Forwarder::Fullnat, backends)
    };
    let mut range = full("range", 4, "udp", "1000-1999", &["10.0.0.7", "2001:db8:b::7"]);
    range.vips = vec![
        "198.18.0.0/16".parse().unwrap(),
        "2001:db8:f::/48".parse().unwrap(),
    ];
    vec![
        full("tcp", 1, "tcp", "80", &["10.0.0.4", "2001:db8:b::4"]),
        full("udp", 1, "udp", "53", &["10.0.0.4", "2001:db8:b::4"]),
        full("port", 2, "tcp", "80", &["10.0.0.5:8080", "[2001:db8:b::5]:8080"]),
        full("fragments", 3, "udp", "53", &["10.0.0.6", "2001:db8:b::6"]),
        range,
        quic::routed(
            "fullnat-quic",
            5,
            Forwarder::Fullnat,
            &[quic::config(0, 4, None)],
            &["0000000b", "0000000c"],
            &["10.0.0.11", "10.0.0.12"],
        ),
    ]
}

/// A flow: its client, what the client sees, what the backend sees, and the backend.
#[derive(Clone, Copy)]
struct Flow {
    tcp: bool,
    client: SocketAddr,
    vip: SocketAddr,
    source: SocketAddr,
    backend: SocketAddr,
    /// The backend as it is declared.
    id: &'static str,
}

impl Flow {
    fn new(tcp: bool, vip: &str, backend: &str, id: &'static str) -> Self {
        let vip: SocketAddr = vip.parse().unwrap();
        let client = if vip.is_ipv6() { C6 } else { C4 };
        Self {
            tcp,
            client: client.parse().unwrap(),
            source: SocketAddr::new(SOURCES[usize::from(vip.is_ipv6())].parse().unwrap(), PORT),
            vip,
            backend: backend.parse().unwrap(),
            id,
        }
    }

    fn v6(&self) -> usize {
        usize::from(self.vip.is_ipv6())
    }

    fn packet(&self, from: SocketAddr, to: SocketAddr) -> Frame {
        let (from, to) = (from.to_string(), to.to_string());
        if self.tcp {
            Frame::tcp(&from, &to)
        } else {
            Frame::udp(&from, &to)
        }
    }

    /// From the client, as it sees it.
    fn request(&self) -> Frame {
        self.packet(self.client, self.vip)
    }

    /// The packet from the client, as the backend sees it.
    fn requested(&self) -> Frame {
        self.packet(self.source, self.backend)
    }

    /// From the backend, as it sees it.
    fn answer(&self) -> Frame {
        self.packet(self.backend, self.source)
    }

    /// The packet from the backend, as the client sees it.
    fn answered(&self) -> Frame {
        self.packet(self.vip, self.client)
    }

    /// A packet that goes to the backend as `after`.
    fn there(&self, name: &str, before: &Frame, after: &Frame) -> Row {
        let output = after
            .clone()
            .ttl(before.ttl - 1)
            .macs(backend_mac(self.backend.ip()), OWN_MAC);
        Row {
            hash: None,
            ..forwarded(name, before, output.bytes(), self.id.parse().unwrap())
        }
    }

    /// A packet that goes to the client as `after`.
    fn back(&self, name: &str, before: &Frame, after: &Frame) -> Row {
        let output = after.clone().ttl(before.ttl - 1).macs(ROUTER_MAC, OWN_MAC);
        Row {
            hash: None,
            reason: Reason::Returned,
            ..forwarded(name, before, output.bytes(), self.id.parse().unwrap())
        }
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let flows = [
        Flow::new(true, "192.0.2.1:80", "10.0.0.4:80", "10.0.0.4"),
        Flow::new(true, "[2001:db8::1]:80", "[2001:db8:b::4]:80", "2001:db8:b::4"),
        Flow::new(false, "192.0.2.1:53", "10.0.0.4:53", "10.0.0.4"),
        Flow::new(false, "[2001:db8::1]:53", "[2001:db8:b::4]:53", "2001:db8:b::4"),
        Flow::new(true, "192.0.2.2:80", "10.0.0.5:8080", "10.0.0.5:8080"),
        Flow::new(
            true,
            "[2001:db8::2]:80",
            "[2001:db8:b::5]:8080",
            "[2001:db8:b::5]:8080",
        ),
        Flow::new(false, "198.18.3.4:1234", "10.0.0.7:1234", "10.0.0.7"),
        Flow::new(
            false,
            "[2001:db8:f:1::2]:1999",
            "[2001:db8:b::7]:1999",
            "2001:db8:b::7",
        ),
    ];
    let all = flows
        .iter()
        .flat_map(of_a_flow)
        .chain(fragments())
        .chain(connections())
        .chain(strangers());
    all.map(|row| row.within(ServiceSet::FullNat)).collect()
}

/// All that a flow may meet.
fn of_a_flow(flow: &Flow) -> Vec<Row> {
    let name = |what: &str| {
        let protocol = if flow.tcp { "TCP" } else { "UDP" };
        format!("fullnat, {protocol} to {}: {what}", flow.vip)
    };
    let first = flow.request().flags(0x02);
    let first = if flow.tcp { first } else { flow.request() };
    let opened = if flow.tcp {
        flow.requested().flags(0x02)
    } else {
        flow.requested()
    };
    let mut other = flow.request();
    other = other.from(flow.client.ip(), 41_000);
    let quoted = if flow.vip.is_ipv6() { 48 } else { 28 };
    let outside: IpAddr = OUTSIDE[flow.v6()].parse().unwrap();
    let inside: IpAddr = INSIDE[flow.v6()].parse().unwrap();
    let mut rows = vec![
        flow.there(&name("the first packet"), &first, &opened),
        Row {
            placement: Some(Placement::Translated),
            ..flow.there(&name("the next"), &flow.request(), &flow.requested())
        },
        flow.back(&name("an answer"), &flow.answer(), &flow.answered()),
        refused(flow, &name("another client's"), &other),
    ];
    for (len, how) in [(quoted, "in part"), (1280, "whole")] {
        rows.push(flow.there(
            &name(&format!("an error about an answer, quoted {how}")),
            &error(outside, &flow.answered(), len),
            &error(flow.source.ip(), &flow.answer(), len),
        ));
        rows.push(flow.back(
            &name(&format!("an error about a request, quoted {how}")),
            &error(inside, &flow.requested(), len),
            &error(flow.vip.ip(), &flow.request(), len),
        ));
    }
    rows.push(expired(name("an answer with TTL 1"), &flow.answer().ttl(1)));
    let mut rows: Vec<Row> = rows
        .into_iter()
        .map(|row| row.after(std::slice::from_ref(&first)))
        .collect();
    if flow.tcp {
        let next = Row {
            placement: Some(Placement::Slot),
            ..flow.there(&name("the next connection from the same port"), &first, &opened)
        };
        let ended = [first.clone(), flow.request().flags(0x11)];
        let again = Row {
            placement: Some(Placement::Translated),
            ..flow.there(&name("the first packet again"), &first, &opened)
        };
        rows.extend([next.after(&ended), again.after(&[first])]);
    }
    rows
}

/// Told that no place is free: there is one, and it is taken.
fn refused(flow: &Flow, name: &str, frame: &Frame) -> Row {
    let reason = Reason::NoSourcePortAnswered;
    if flow.tcp {
        return resets_for(name, frame, reason);
    }
    let kind = if flow.vip.is_ipv6() { [1, 4] } else { [3, 3] };
    told(name, frame, kind, 0, reason)
}

/// An error from `router` about `packet`, which quotes `quoted` bytes of it and goes to whom it is from.
fn error(router: IpAddr, packet: &Frame, quoted: usize) -> Frame {
    let kind = if router.is_ipv6() { [1, 4] } else { [3, 3] };
    let bytes = packet.ip_bytes();
    let rest = [&[0; 4], &bytes[..quoted.min(bytes.len())]].concat();
    Frame::icmp(&router.to_string(), &packet.source.to_string(), kind, rest)
}

/// The ports are in the first fragment alone; no two packets share an identification.
fn fragments() -> Vec<Row> {
    let flows = [
        Flow::new(false, "192.0.2.3:53", "10.0.0.6:53", "10.0.0.6"),
        Flow::new(false, "[2001:db8::3]:53", "[2001:db8:b::6]:53", "2001:db8:b::6"),
    ];
    let mut rows = Vec::new();
    for flow in flows {
        let long = |frame: Frame, id| frame.data(&[7; 150]).label(id).fragment(0).in_fragments(64);
        let there = long(flow.request(), 8001)
            .into_iter()
            .zip(long(flow.requested(), 8001));
        for (i, (before, after)) in there.enumerate() {
            let name = format!("fullnat, fragment {i} to {}", flow.vip);
            rows.push(flow.there(&name, &before, &after));
        }
        let back = long(flow.answer(), 8002)
            .into_iter()
            .zip(long(flow.answered(), 8002));
        for (i, (before, after)) in back.enumerate() {
            let name = format!("fullnat, fragment {i} from {}", flow.vip);
            rows.push(flow.back(&name, &before, &after));
        }
    }
    rows
}

/// Two connections of one client port: their connection IDs name different backends, and one place serves them in turn.
fn connections() -> Vec<Row> {
    let flow = |last| {
        let backend = format!("10.0.0.{last}");
        let id = if last == 11 { "10.0.0.11" } else { "10.0.0.12" };
        Flow::new(false, "192.0.2.5:443", &format!("{backend}:443"), id)
    };
    let data = |last| quic::short(&quic::cid(0, &[0, 0, 0, last]));
    let request = |last| flow(last).request().data(&data(last));
    let named = |name: &str, last| Row {
        placement: Some(Placement::ConnectionId),
        ..flow(last).there(name, &request(last), &flow(last).requested().data(&data(last)))
    };
    let known = Row {
        placement: Some(Placement::Translated),
        ..named("fullnat, QUIC: the next packet of a connection", 11)
    };
    vec![
        named("fullnat, QUIC: the first packet of a connection", 11),
        known.after(&[request(11)]),
        named("fullnat, QUIC: another connection from the same port", 12).after(&[request(11)]),
        named("fullnat, QUIC: the first one again", 11).after(&[request(11), request(12)]),
    ]
}

fn strangers() -> Vec<Row> {
    let source = SocketAddr::new(source_pool().addresses[0], PORT).to_string();
    let unknown = Frame::tcp("192.0.2.1:80", "198.51.100.50:47000");
    vec![
        passed("to the pool from a stranger", Frame::tcp("10.0.0.99:80", &source)),
        passed(
            "to the pool from a backend's other port",
            Frame::tcp("10.0.0.4:81", &source),
        ),
        passed(
            "to the pool by the other protocol",
            Frame::udp("10.0.0.5:8080", &source),
        ),
        passed(
            "an error about no flow through fullnat",
            error(OUTSIDE[0].parse().unwrap(), &unknown, 28),
        ),
    ]
}
