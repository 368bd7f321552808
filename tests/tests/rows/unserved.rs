//! Packets for a VIP that none of its services takes, where a service says that the host is not to get them.

use lb_common::abi::Reason::{self, BadHeader, Unserved, UnservedAnswered};
use lb_packets::Frame;

use super::{
    answers::resets_for,
    options::{DROPPING_UNSERVED, PLAIN, REJECTING_UNSERVED, vip4, vip6},
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, answered, l2dsr, passed, told, unsent},
    service_set::ServiceSet,
};

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Neighbour solicitation (RFC 4861 §4.3), type and code.
const SOLICITATION: [u8; 2] = [135, 0];

pub(crate) fn rows() -> Vec<Row> {
    let rows = [
        served(),
        dropped(),
        rejected(),
        not_answered(),
        by_prefix(),
        the_hosts(),
    ]
    .concat();
    rows.into_iter()
        .map(|row| row.within(ServiceSet::Options))
        .collect()
}

/// The client's address without a port.
fn hosts() -> [&'static str; 2] {
    ["198.51.100.50", "2001:db8:c::50"]
}

/// Both addresses of a VIP.
fn addresses(vip: u8) -> [String; 2] {
    [format!("192.0.2.{vip}"), format!("2001:db8::{vip:x}")]
}

fn served() -> Vec<Row> {
    let [v4, v6] = addresses(REJECTING_UNSERVED);
    vec![
        l2dsr(
            "unserved: a served port",
            &Frame::tcp(C4, &vip4(REJECTING_UNSERVED, 80)),
            "10.0.0.1",
        ),
        l2dsr(
            "unserved: a served protocol",
            &Frame::udp(C4, &vip4(DROPPING_UNSERVED, 53)),
            "10.0.0.1",
        ),
        answered("unserved: echo", &Frame::echo(hosts()[0], &v4)),
        answered("unserved: echo over IPv6", &Frame::echo(hosts()[1], &v6)),
    ]
}

fn dropped() -> Vec<Row> {
    let dropped = |name: &str, frame: Frame| unsent(format!("unserved, dropped: {name}"), frame, Unserved);
    let [host4, host6] = hosts();
    let [v4, v6] = addresses(DROPPING_UNSERVED);
    let (vip4, vip6) = (
        |port| vip4(DROPPING_UNSERVED, port),
        |port| vip6(DROPPING_UNSERVED, port),
    );
    let udp = || Frame::udp(C4, &vip4(54)).data(&[1; 90]).label(0x310).fragment(0);
    vec![
        dropped("TCP", Frame::tcp(C4, &vip4(81)).flags(SYN)),
        dropped("TCP over IPv6", Frame::tcp(C6, &vip6(81)).flags(SYN)),
        dropped(
            "UDP of another service that leaves it to the host",
            Frame::udp(C4, &vip4(54)),
        ),
        dropped("SCTP", Frame::sctp(C6, &vip6(80), 1)),
        dropped("a tag", Frame::tcp(C4, &vip4(81)).tag(0x8100, 9)),
        dropped("IPv4 options", Frame::tcp(C4, &vip4(81)).ip_options(&[1; 4])),
        dropped("TTL 1", Frame::tcp(C4, &vip4(81)).ttl(1)),
        dropped("a first fragment", udp().in_fragments(48)[0].clone()),
        dropped("another protocol", Frame::raw(host4, &v4, 47, &[0; 16])),
        dropped("another protocol over IPv6", Frame::raw(host6, &v6, 50, &[0; 16])),
        dropped(
            "a timestamp request",
            Frame::icmp(host4, &v4, [13, 0], vec![0; 16]),
        ),
        dropped(
            "ICMPv6 that was forwarded",
            Frame::icmp(host6, &v6, SOLICITATION, vec![0; 20]).ttl(254),
        ),
    ]
}

fn rejected() -> Vec<Row> {
    let resets = |name: &str, frame: Frame| {
        resets_for(&format!("unserved, rejected: {name}"), &frame, UnservedAnswered)
    };
    let tells = |name: &str, frame: Frame| {
        let kind = if frame.source.is_ipv4() { [3, 3] } else { [1, 4] };
        told(
            format!("unserved, rejected: {name}"),
            &frame,
            kind,
            0,
            UnservedAnswered,
        )
    };
    let (vip4, vip6) = (
        |port| vip4(REJECTING_UNSERVED, port),
        |port| vip6(REJECTING_UNSERVED, port),
    );
    let first = Frame::udp(C4, &vip4(54))
        .data(&[1; 90])
        .label(0x320)
        .fragment(0)
        .in_fragments(48)[0]
        .clone();
    vec![
        resets("TCP", Frame::tcp(C4, &vip4(81)).flags(SYN)),
        resets("TCP over IPv6", Frame::tcp(C6, &vip6(81)).flags(ACK)),
        resets(
            "TCP behind a tag",
            Frame::tcp(C4, &vip4(81)).flags(SYN).tag(0x8100, 3),
        ),
        tells("UDP", Frame::udp(C4, &vip4(80))),
        tells("UDP over IPv6", Frame::udp(C6, &vip6(80))),
        tells("SCTP", Frame::sctp(C4, &vip4(80), 1)),
        tells("a first fragment", first),
    ]
}

/// RFC 1122 §3.2.2, RFC 9293 §3.10.7.1.
fn not_answered() -> Vec<Row> {
    let silent =
        |name: &str, frame: Frame| unsent(format!("unserved, not answered: {name}"), frame, Unserved);
    let [host4, host6] = hosts();
    let [v4, v6] = addresses(REJECTING_UNSERVED);
    let quoted = Frame::tcp(&vip4(REJECTING_UNSERVED, 81), C4).ip_bytes();
    let error = [&[0; 4][..], &quoted].concat();
    vec![
        silent(
            "a reset",
            Frame::tcp(C4, &vip4(REJECTING_UNSERVED, 81)).flags(RST),
        ),
        silent(
            "from a group",
            Frame::udp("224.0.0.9:9", &vip4(REJECTING_UNSERVED, 81)),
        ),
        silent("another protocol", Frame::raw(host4, &v4, 47, &[0; 16])),
        silent("another protocol over IPv6", Frame::raw(host6, &v6, 50, &[0; 16])),
        silent(
            "an error about no flow of ours",
            Frame::icmp(host4, &v4, [3, 3], error),
        ),
    ]
}

/// The most exact VIP decides, whatever a prefix around it says.
fn by_prefix() -> Vec<Row> {
    let udp = |address: &str| Frame::udp(C4, address);
    vec![
        unsent("unserved: a prefix drops", udp("198.18.0.9:54"), Unserved),
        told(
            "unserved: a longer prefix rejects",
            &udp("198.18.0.129:54"),
            [3, 3],
            0,
            UnservedAnswered,
        ),
        passed(
            "unserved: an address of its own leaves it to the host",
            udp("198.18.0.200:54"),
        ),
    ]
}

fn the_hosts() -> Vec<Row> {
    let [_, v6] = addresses(REJECTING_UNSERVED);
    let solicitation = Frame::icmp(hosts()[1], &v6, SOLICITATION, vec![0; 20]).ttl(255);
    let broken = |reason: Reason| {
        let mut bytes = Frame::tcp(C4, &vip4(DROPPING_UNSERVED, 81)).bytes();
        // Four words are no IPv4 header.
        bytes[14] = 0x44;
        unsent("unserved: a broken header", bytes, reason)
    };
    vec![
        passed(
            "unserved: a neighbour asks whether the host is there",
            solicitation,
        ),
        passed(
            "unserved: a VIP that leaves it to the host",
            Frame::tcp(C4, &vip4(PLAIN, 81)).flags(SYN),
        ),
        passed("unserved: no VIP", Frame::tcp(C4, "192.0.2.200:81").flags(SYN)),
        broken(BadHeader),
    ]
}
