//! Extension headers of IPv6: walked, so many of them and no more; and protocols without ports.

use lb_common::abi::Reason::{BadHeader, ExtensionHeader, Truncated};
use lb_packets::Frame;

use super::row::{CLIENT6 as C6, Row, expired, l2dsr, nat, passed, too_big, tunnelled, unsent};

const A6: &str = "2001:db8:c::50";
const VIP6: &str = "2001:db8::1";

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Padding (RFC 8200 §4.2): what follows the next header of a header of 8 and of 16 bytes.
const SHORT: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
const LONG: [u8; 15] = [1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// A routing header of type 4 with no segments left, and an authentication header of 24 bytes.
const ROUTED: [u8; 7] = [0, 4, 0, 0, 0, 0, 0];
const AUTHENTIC: [u8; 23] = [
    4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
];

pub(crate) fn rows() -> Vec<Row> {
    [walked(), not_walked(), cut(), portless()].concat()
}

fn tcp() -> Frame {
    Frame::tcp(C6, "[2001:db8::1]:80")
}

fn udp() -> Frame {
    Frame::udp(C6, "[2001:db8::1]:53")
}

/// The kinds of headers, each as a packet may have it.
fn kinds() -> [(&'static str, u8, &'static [u8]); 5] {
    [
        ("hop-by-hop options", HOP_BY_HOP, &SHORT),
        ("destination options", DESTINATION, &SHORT),
        ("long destination options", DESTINATION, &LONG),
        ("a routing header", ROUTING, &ROUTED),
        ("an authentication header", AUTHENTICATION, &AUTHENTIC),
    ]
}

fn walked() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, kind, rest) in kinds() {
        let with = |frame: Frame| frame.extension(kind, rest);
        let to = |vip: &str| with(Frame::tcp(C6, vip));
        rows.extend([
            l2dsr(&format!("{name} before TCP"), &with(tcp()), "10.0.0.1"),
            l2dsr(&format!("{name} before UDP"), &with(udp()), "10.0.0.1"),
            tunnelled(&format!("{name} into IPv4"), &to("[2001:db8::2]:80"), "10.0.0.2"),
            tunnelled(
                &format!("{name} into IPv6"),
                &to("[2001:db8::3]:80"),
                "2001:db8:b::3",
            ),
            nat(
                &format!("{name} and nat"),
                &to("[2001:db8::5]:80"),
                "[2001:db8:b::5]:8080",
            ),
            expired(format!("{name}, hop limit 1"), &with(tcp()).ttl(1)),
            passed(format!("{name} to a host"), to("[2001:db8::200]:80")),
            passed(format!("{name} to another port"), to("[2001:db8::1]:81")),
            passed(
                format!("{name} before an echo request"),
                with(Frame::echo(A6, VIP6)),
            ),
        ]);
    }
    let all = tcp()
        .extension(HOP_BY_HOP, &SHORT)
        .extension(DESTINATION, &LONG)
        .extension(ROUTING, &ROUTED)
        .extension(AUTHENTICATION, &AUTHENTIC)
        .extension(DESTINATION, &SHORT);
    let eight = (0..8).fold(tcp(), |frame, _| frame.extension(DESTINATION, &SHORT));
    let long = Frame::udp(C6, "[2001:db8::d]:53").extension(HOP_BY_HOP, &SHORT);
    rows.extend([
        l2dsr("all extension headers", &all, "10.0.0.1"),
        l2dsr(
            "all extension headers behind a tag",
            &all.clone().tag(0x8100, 9),
            "10.0.0.1",
        ),
        l2dsr("eight extension headers", &eight, "10.0.0.1"),
        l2dsr(
            "256 bytes of extension headers",
            &tcp().extension(DESTINATION, &padded(256)),
            "10.0.0.1",
        ),
        too_big(
            "hop-by-hop options, too big",
            &long.ip_len(900),
            super::service_set::SMALL,
        ),
    ]);
    rows
}

/// What follows the next header of a header of `len` bytes.
fn padded(len: usize) -> Vec<u8> {
    let mut rest = vec![0; len - 1];
    rest[0] = (len / 8 - 1) as u8;
    rest
}

fn not_walked() -> Vec<Row> {
    let nine = |frame: Frame| (0..9).fold(frame, |frame, _| frame.extension(DESTINATION, &SHORT));
    let deep = |frame: Frame| frame.extension(DESTINATION, &padded(264));
    let underway = |frame: Frame| frame.extension(ROUTING, &[0, 4, 1, 0, 0, 0, 0]);
    let host = || Frame::tcp(C6, "[2001:db8::200]:80");
    vec![
        unsent("nine extension headers", nine(tcp()), ExtensionHeader),
        unsent("264 bytes of extension headers", deep(tcp()), ExtensionHeader),
        unsent(
            "a routing header with segments left",
            underway(tcp()),
            ExtensionHeader,
        ),
        passed("nine extension headers to a host", nine(host())),
        passed("264 bytes of extension headers to a host", deep(host())),
        passed("a routing header with segments left to a host", underway(host())),
    ]
}

fn cut() -> Vec<Row> {
    let row = |name: &str, header: u8, bytes: &[u8], reason| {
        unsent(name, Frame::raw(A6, VIP6, header, bytes), reason)
    };
    let beyond = tcp().extension(DESTINATION, &[40, 1, 4, 0, 0, 0, 0]);
    let mut rows = vec![
        row("an extension header of no bytes", DESTINATION, &[], Truncated),
        row(
            "an extension header of 7 bytes",
            DESTINATION,
            &[6, 0, 1, 4, 0, 0, 0],
            Truncated,
        ),
        row(
            "nothing behind an extension header",
            DESTINATION,
            &[6, 0, 1, 4, 0, 0, 0, 0],
            Truncated,
        ),
        row(
            "four bytes of TCP behind an extension header",
            DESTINATION,
            &[6, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4],
            Truncated,
        ),
        unsent(
            "an extension header longer than the packet",
            beyond,
            ExtensionHeader,
        ),
        row(
            "an extension header as long as the packet says",
            DESTINATION,
            &[6, 2, 1, 4, 0, 0, 0, 0],
            Truncated,
        ),
    ];
    let mut short = tcp().extension(DESTINATION, &SHORT).bytes();
    // The payload's length ends within TCP's header.
    short[18..20].copy_from_slice(&20_u16.to_be_bytes());
    rows.push(unsent(
        "a payload length that cuts TCP behind an extension header",
        short,
        BadHeader,
    ));
    rows
}

fn portless() -> Vec<Row> {
    let behind = |next: u8| Frame::raw(A6, VIP6, next, &[7; 24]).extension(DESTINATION, &SHORT);
    vec![
        passed("ESP behind an extension header", behind(50)),
        passed("no next header behind an extension header", behind(59)),
        passed("GRE behind an extension header", behind(47)),
        passed("mobility behind an extension header", behind(135)),
    ]
}
