//! ICMP errors about flows: to the backend that the flow belongs to, by what of its packet they quote.

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::Reason::{BadHeader, NoBackend, TooBig, Truncated, TtlExpired};
use lb_packets::{Frame, flow_hash};
use lb_world::SEED;

use super::{
    options::{HASH3, PLAIN, SCTP, vip4, vip6},
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, l2dsr, passed, tunnelled, unsent},
    service_set::ServiceSet,
};

/// Routers on the way to clients.
const ROUTER4: &str = "198.51.100.7";
const ROUTER6: &str = "2001:db8:c::7";
const BACKEND: &str = "10.0.0.1";

pub(crate) fn rows() -> Vec<Row> {
    let optional = sctp().into_iter().map(|row| row.within(ServiceSet::Options));
    let plain = [kinds(), quotes(), in_tunnels(), not_forwarded(), malformed()].concat();
    optional.chain(plain).collect()
}

/// A packet of a service to its client, as routers behind the balancer see it.
fn tcp4() -> Frame {
    Frame::tcp("192.0.2.1:80", C4)
}

fn tcp6() -> Frame {
    Frame::tcp("[2001:db8::1]:80", C6)
}

/// An error about `packet`, which quotes `quoted` bytes of it and goes to whom it is from.
fn error(kind: [u8; 2], packet: &Frame, quoted: usize) -> Frame {
    let bytes = packet.ip_bytes();
    error_quoting(kind, packet.source, &bytes[..quoted.min(bytes.len())])
}

fn error_quoting(kind: [u8; 2], to: IpAddr, quoted: &[u8]) -> Frame {
    let router = if to.is_ipv4() { ROUTER4 } else { ROUTER6 };
    let rest = [&[0, 0, 0x05, 0x14], quoted].concat();
    Frame::icmp(router, &to.to_string(), kind, rest)
}

/// The hash of the flow that `packet` answers to.
fn flow_of(packet: &Frame) -> Option<u64> {
    let [vip, client] = packet.ports();
    Some(flow_hash(packet.destination, [client, vip], SEED))
}

/// To the backend of the flow that `packet` is of.
fn to_backend(name: impl Into<String>, error: &Frame, packet: &Frame) -> Row {
    Row {
        hash: flow_of(packet),
        ..l2dsr(&name.into(), error, BACKEND)
    }
}

fn kinds() -> Vec<Row> {
    let kinds4: [(&str, [u8; 2]); 8] = [
        ("network unreachable", [3, 0]),
        ("host unreachable", [3, 1]),
        ("port unreachable", [3, 3]),
        ("fragmentation needed", [3, 4]),
        ("administratively prohibited", [3, 13]),
        ("time exceeded", [11, 0]),
        ("reassembly time exceeded", [11, 1]),
        ("parameter problem", [12, 0]),
    ];
    let kinds6: [(&str, [u8; 2]); 7] = [
        ("no route", [1, 0]),
        ("address unreachable", [1, 3]),
        ("port unreachable", [1, 4]),
        ("packet too big", [2, 0]),
        ("hop limit exceeded", [3, 0]),
        ("reassembly time exceeded", [3, 1]),
        ("parameter problem", [4, 1]),
    ];
    let row4 = |(name, kind): &(&str, [u8; 2])| {
        to_backend(format!("{name}, IPv4"), &error(*kind, &tcp4(), 28), &tcp4())
    };
    let row6 = |(name, kind): &(&str, [u8; 2])| {
        to_backend(format!("{name}, IPv6"), &error(*kind, &tcp6(), 1280), &tcp6())
    };
    kinds4.iter().map(row4).chain(kinds6.iter().map(row6)).collect()
}

/// How much of the packet is quoted, and what packet.
fn quotes() -> Vec<Row> {
    let (needed, big) = ([3, 4], [2, 0]);
    let udp4 = Frame::udp("192.0.2.1:53", C4);
    let udp6 = Frame::udp("[2001:db8::1]:53", C6);
    let optional = tcp4().ip_options(&[1; 40]);
    let extended = tcp6()
        .extension(0, &[0, 1, 4, 0, 0, 0, 0])
        .extension(60, &[0, 1, 4, 0, 0, 0, 0]);
    let first4 = tcp4().data(&[1; 600]).in_fragments(256)[0].clone();
    let first6 = tcp6().data(&[1; 600]).in_fragments(256)[0].clone();
    let plain = |name: &str, error: Frame, packet: &Frame| to_backend(name, &error, packet);
    vec![
        plain(
            "an error that quotes all of a TCP packet",
            error(needed, &tcp4(), 1500),
            &tcp4(),
        ),
        plain("an error that quotes UDP", error(needed, &udp4, 28), &udp4),
        plain("an error that quotes UDP, IPv6", error(big, &udp6, 1280), &udp6),
        plain(
            "an error that quotes 8 bytes of TCP, IPv6",
            error(big, &tcp6(), 48),
            &tcp6(),
        ),
        plain(
            "an error that quotes IPv4 options",
            error(needed, &optional, 68),
            &tcp4(),
        ),
        plain(
            "an error that quotes extension headers",
            error(big, &extended, 1280),
            &tcp6(),
        ),
        plain(
            "an error about a first fragment",
            error(needed, &first4, 200),
            &tcp4(),
        ),
        plain(
            "an error about a first fragment, IPv6",
            error(big, &first6, 200),
            &tcp6(),
        ),
        plain(
            "an error with IPv4 options",
            error(needed, &tcp4(), 28).ip_options(&[1; 8]),
            &tcp4(),
        ),
        plain(
            "an error behind hop-by-hop options",
            error(big, &tcp6(), 1280).extension(0, &[0, 1, 4, 0, 0, 0, 0]),
            &tcp6(),
        ),
        plain(
            "an error behind a tag",
            error(needed, &tcp4(), 28).tag(0x8100, 6),
            &tcp4(),
        ),
        plain(
            "an error behind two tags, IPv6",
            error(big, &tcp6(), 1280).tag(0x88a8, 6).tag(0x8100, 7),
            &tcp6(),
        ),
        plain(
            "an error with padding",
            error(needed, &tcp4(), 28).padding(&[0; 4]),
            &tcp4(),
        ),
        plain(
            "an error with type of service",
            error(needed, &tcp4(), 28).tos(0xc0),
            &tcp4(),
        ),
    ]
}

fn in_tunnels() -> Vec<Row> {
    let row = |name: &str, kind, vip: &str, client: &str, backend: &str| {
        let packet = Frame::tcp(vip, client);
        let error = error(kind, &packet, 1280);
        Row {
            hash: flow_of(&packet),
            ..tunnelled(name, &error, backend)
        }
    };
    vec![
        row("an error into 4in4", [3, 4], "192.0.2.2:80", C4, "10.0.0.2"),
        row("an error into 6in4", [2, 0], "[2001:db8::2]:80", C6, "10.0.0.2"),
    ]
}

fn sctp() -> Vec<Row> {
    let (sctp4, sctp6) = (vip4(SCTP, 3868), vip6(SCTP, 3868));
    let answer4 = Frame::sctp(&sctp4, C4, 3);
    let answer6 = Frame::sctp(&sctp6, C6, 3);
    let udp = Frame::udp(&vip4(PLAIN, 53), C4);
    let by_address = Frame::udp(&vip4(HASH3, 53), C4);
    vec![
        to_backend("an error about SCTP", &error([3, 4], &answer4, 28), &answer4),
        to_backend(
            "an error about SCTP, IPv6",
            &error([2, 0], &answer6, 1280),
            &answer6,
        ),
        to_backend("an error about UDP", &error([3, 3], &udp, 28), &udp),
        to_backend(
            "an error where only fragments go by addresses",
            &error([3, 3], &by_address, 28),
            &by_address,
        ),
    ]
}

fn not_forwarded() -> Vec<Row> {
    let needed = [3, 4];
    let echo = Frame::icmp("192.0.2.1", "198.51.100.50", [0, 0], vec![0; 12]);
    let later = tcp4().data(&[1; 600]).in_fragments(256)[1].clone();
    let to = |frame: Frame, address: &str| frame.to(address.parse().unwrap(), 0);
    let empty = Frame::tcp("192.0.2.10:80", C4);
    let small = Frame::udp("192.0.2.13:53", C4);
    let large = error(needed, &small.ip_len(640), 640);
    vec![
        passed(
            "an error about a host's packet",
            error(needed, &Frame::tcp("192.0.2.200:80", C4), 28),
        ),
        passed(
            "an error about a port without service",
            error(needed, &Frame::tcp("192.0.2.1:81", C4), 28),
        ),
        passed(
            "an error about a protocol without service",
            error(needed, &Frame::udp("192.0.2.1:80", C4), 28),
        ),
        passed("an error about an echo reply", error(needed, &echo, 28)),
        passed("an error about a later fragment", error(needed, &later, 200)),
        passed(
            "an error about a tunnel",
            error(needed, &Frame::raw("192.0.2.1", ROUTER4, 4, &[0x45; 40]), 60),
        ),
        passed(
            "an error to another VIP than its packet is from",
            to(error(needed, &tcp4(), 28), "192.0.2.2"),
        ),
        passed(
            "an error to a host about a VIP",
            to(error(needed, &tcp4(), 28), "192.0.2.200"),
        ),
        passed("source quench", error([4, 0], &tcp4(), 28)),
        passed("a redirect", error([5, 1], &tcp4(), 28)),
        passed(
            "an error in fragments",
            error(needed, &tcp4(), 28).fragment(0x2000),
        ),
        passed("an error without any services", error(needed, &tcp4(), 28)).within(ServiceSet::Nothing),
        unsent(
            "an error about a service without backends",
            error(needed, &empty, 28),
            NoBackend,
        ),
        unsent(
            "an error with TTL 1",
            error(needed, &tcp4(), 28).ttl(1),
            TtlExpired,
        ),
        unsent(
            "an error with hop limit 1",
            error([2, 0], &tcp6(), 1280).ttl(1),
            TtlExpired,
        ),
        unsent("an error too big for its way", large, TooBig),
    ]
}

fn malformed() -> Vec<Row> {
    let needed = [3, 4];
    let vip4: IpAddr = "192.0.2.1".parse().unwrap();
    let vip6: IpAddr = "2001:db8::1".parse().unwrap();
    let quoted4 = |len: usize| error(needed, &tcp4(), len);
    let quoted6 = |len: usize| error([2, 0], &tcp6(), len);
    let with = |at: usize, byte: u8| {
        let mut bytes = tcp4().ip_bytes();
        bytes[at] = byte;
        error_quoting(needed, vip4, &bytes)
    };
    let socket: SocketAddr = C6.parse().unwrap();
    let wrong6 = error_quoting([2, 0], vip6, &Frame::tcp(C4, C4).ip_bytes()).from(socket.ip(), 0);
    vec![
        unsent("an error that quotes nothing", quoted4(0), Truncated),
        unsent("an error that quotes half an IP header", quoted4(12), Truncated),
        unsent("an error that quotes an IP header only", quoted4(20), Truncated),
        unsent("an error that quotes 7 bytes of TCP", quoted4(27), Truncated),
        unsent("an error that quotes nothing, IPv6", quoted6(0), Truncated),
        unsent("an error that quotes half an IPv6 header", quoted6(39), Truncated),
        unsent(
            "an error that quotes 7 bytes of TCP, IPv6",
            quoted6(47),
            Truncated,
        ),
        unsent("an error that quotes another version", with(0, 0x65), BadHeader),
        unsent(
            "an error that quotes a header of 4 words",
            with(0, 0x44),
            BadHeader,
        ),
        unsent("an ICMPv6 error that quotes IPv4", wrong6, BadHeader),
    ]
}
