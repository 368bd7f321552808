//! To a backend without a change of destination: `l2dsr` and `ipip`.

use lb_common::abi::Reason::{self, EmptyPassed, NoBackend, Unresolved};
use lb_packets::Frame;

use super::{
    row::{
        CLIENT4 as C4, CLIENT6 as C6, Row, expired, hash, l2dsr, too_big, tunnelled, tunnelled_from, unsent,
    },
    service_set::{SMALL, ServiceSet},
};

const SYN: u8 = 0x02;
const NOPS: [u8; 4] = [1, 1, 1, 0];
const ROUTER_ALERT_AND_MORE: [u8; 40] = {
    let mut options = [1; 40];
    (options[0], options[1], options[2], options[3]) = (0x94, 4, 0, 0);
    options
};

pub(crate) fn rows() -> Vec<Row> {
    [basic(), variations(), limits(), without_backend()].concat()
}

fn basic() -> Vec<Row> {
    vec![
        l2dsr(
            "l2dsr, TCP over IPv4",
            &Frame::tcp(C4, "192.0.2.1:80"),
            "10.0.0.1",
        ),
        l2dsr(
            "l2dsr, UDP over IPv4",
            &Frame::udp(C4, "192.0.2.1:53"),
            "10.0.0.1",
        ),
        l2dsr(
            "l2dsr, TCP over IPv6",
            &Frame::tcp(C6, "[2001:db8::1]:80"),
            "10.0.0.1",
        ),
        l2dsr(
            "l2dsr, UDP over IPv6",
            &Frame::udp(C6, "[2001:db8::1]:53"),
            "10.0.0.1",
        ),
        tunnelled("4in4, TCP", &Frame::tcp(C4, "192.0.2.2:80"), "10.0.0.2"),
        tunnelled("4in4, UDP", &Frame::udp(C4, "192.0.2.2:53"), "10.0.0.2"),
        tunnelled("6in4, TCP", &Frame::tcp(C6, "[2001:db8::2]:80"), "10.0.0.2"),
        tunnelled("6in4, UDP", &Frame::udp(C6, "[2001:db8::2]:53"), "10.0.0.2"),
        tunnelled("4in6, TCP", &Frame::tcp(C4, "192.0.2.3:80"), "2001:db8:b::3"),
        tunnelled("4in6, UDP", &Frame::udp(C4, "192.0.2.3:53"), "2001:db8:b::3"),
        tunnelled("6in6, TCP", &Frame::tcp(C6, "[2001:db8::3]:80"), "2001:db8:b::3"),
        tunnelled("6in6, UDP", &Frame::udp(C6, "[2001:db8::3]:53"), "2001:db8:b::3"),
        l2dsr(
            "any port, TCP over IPv4",
            &Frame::tcp(C4, "192.0.2.6:1"),
            "10.0.0.6",
        ),
        l2dsr(
            "any port, the highest",
            &Frame::tcp(C4, "192.0.2.6:65535"),
            "10.0.0.6",
        ),
        l2dsr(
            "any port, TCP over IPv6",
            &Frame::tcp(C6, "[2001:db8::6]:443"),
            "10.0.0.6",
        ),
        tunnelled(
            "exact beats any, IPv4",
            &Frame::tcp(C4, "192.0.2.6:80"),
            "10.0.0.60",
        ),
        tunnelled(
            "exact beats any, IPv6",
            &Frame::tcp(C6, "[2001:db8::6]:80"),
            "10.0.0.60",
        ),
        l2dsr(
            "out of the other interface",
            &Frame::tcp(C4, "192.0.2.18:80"),
            "10.0.0.176",
        )
        .redirected(),
        l2dsr(
            "out of the other interface, IPv6",
            &Frame::tcp(C6, "[2001:db8::12]:80"),
            "10.0.0.176",
        )
        .redirected(),
    ]
}

fn variations() -> Vec<Row> {
    let tcp4 = || Frame::tcp(C4, "192.0.2.1:80");
    let tcp6 = || Frame::tcp(C6, "[2001:db8::1]:80");
    let udp4 = || Frame::udp(C4, "192.0.2.1:53");
    let udp6 = || Frame::udp(C6, "[2001:db8::1]:53");
    let into4 = || Frame::tcp(C4, "192.0.2.2:80");
    let into6 = || Frame::tcp(C6, "[2001:db8::3]:80");
    let spread4 = || Frame::tcp(C4, "192.0.2.2:80").tos(0xb9);
    let spread6 = || Frame::tcp(C6, "[2001:db8::3]:80").tos(0x2e);
    vec![
        l2dsr("SYN", &tcp4().flags(SYN), "10.0.0.1"),
        l2dsr("SYN over IPv6", &tcp6().flags(SYN), "10.0.0.1"),
        l2dsr("SYN and ACK open no flow", &tcp4().flags(0x12), "10.0.0.1"),
        l2dsr("FIN", &tcp4().flags(0x11), "10.0.0.1"),
        l2dsr("RST", &tcp4().flags(0x04), "10.0.0.1"),
        l2dsr("no flags at all", &tcp4().flags(0), "10.0.0.1"),
        l2dsr(
            "SYN with options",
            &tcp4().flags(SYN).tcp_options(&[2, 4, 5, 0xb4]),
            "10.0.0.1",
        ),
        l2dsr("TCP without data", &tcp4().data(&[]), "10.0.0.1"),
        l2dsr(
            "TCP with 40 bytes of options",
            &tcp4().tcp_options(&[1; 40]),
            "10.0.0.1",
        ),
        l2dsr("UDP without data", &udp4().data(&[]), "10.0.0.1"),
        l2dsr("UDP without checksum", &udp4().unsummed(), "10.0.0.1"),
        l2dsr("UDP without checksum over IPv6", &udp6().unsummed(), "10.0.0.1"),
        l2dsr("IPv4 options", &tcp4().ip_options(&NOPS), "10.0.0.1"),
        l2dsr(
            "40 bytes of IPv4 options",
            &udp4().ip_options(&ROUTER_ALERT_AND_MORE),
            "10.0.0.1",
        ),
        tunnelled("IPv4 options in a tunnel", &into4().ip_options(&NOPS), "10.0.0.2"),
        l2dsr("padding", &tcp4().data(&[]).padding(&[0; 6]), "10.0.0.1"),
        l2dsr("padding over IPv6", &tcp6().padding(&[0xee; 9]), "10.0.0.1"),
        tunnelled(
            "padding behind a tunnel",
            &into4().padding(&[0xee; 3]),
            "10.0.0.2",
        ),
        tunnelled(
            "padding behind an IPv6 tunnel",
            &into6().padding(&[0xee; 3]),
            "2001:db8:b::3",
        ),
        l2dsr("don't-fragment not set", &tcp4().fragment(0), "10.0.0.1"),
        l2dsr(
            "the reserved bit makes no fragment",
            &tcp4().fragment(0x8000),
            "10.0.0.1",
        ),
        l2dsr("type of service stays", &tcp4().tos(0xff), "10.0.0.1"),
        tunnelled(
            "type of service is copied outward",
            &into4().tos(0xb9),
            "10.0.0.2",
        ),
        tunnelled(
            "traffic class is copied outward",
            &into6().tos(0x2e),
            "2001:db8:b::3",
        ),
        tunnelled(
            "inner flow label stays",
            &into6().label(0xf_edcb),
            "2001:db8:b::3",
        ),
        tunnelled_from(
            "outer source varies, IPv4",
            &spread4(),
            &varied4(&spread4()),
            "10.0.0.2",
        )
        .within(ServiceSet::Varied),
        tunnelled_from(
            "outer source varies, IPv6",
            &spread6(),
            &varied6(&spread6()),
            "2001:db8:b::3",
        )
        .within(ServiceSet::Varied),
    ]
}

/// The source within 172.16.0.0/16 that the flow gets.
fn varied4(frame: &Frame) -> String {
    let [_, _, c, d] = ((hash(frame) >> 8) as u32).to_le_bytes();
    format!("172.16.{c}.{d}")
}

/// The source within 2001:db8:7::/96 that the flow gets.
fn varied6(frame: &Frame) -> String {
    let [a, b, c, d] = ((hash(frame) >> 8) as u32).to_le_bytes();
    format!("2001:db8:7::{a:02x}{b:02x}:{c:02x}{d:02x}")
}

fn limits() -> Vec<Row> {
    let dsr = |to, ttl| Frame::tcp(if to == "192.0.2.1:80" { C4 } else { C6 }, to).ttl(ttl);
    let (v4, v6) = ("192.0.2.1:80", "[2001:db8::1]:80");
    let long = |vip: u8, len| Frame::udp(C4, &format!("192.0.2.{vip}:53")).ip_len(len);
    let long6 = |vip: u8, len| Frame::udp(C6, &format!("[2001:db8::{vip:x}]:53")).ip_len(len);
    vec![
        expired("TTL 0", &dsr(v4, 0)),
        expired("TTL 1", &dsr(v4, 1)),
        expired("hop limit 0", &dsr(v6, 0)),
        expired("hop limit 1", &dsr(v6, 1)),
        l2dsr("TTL 2", &dsr(v4, 2), "10.0.0.1"),
        l2dsr("TTL 255", &dsr(v4, 255), "10.0.0.1"),
        l2dsr("hop limit 2", &dsr(v6, 2), "10.0.0.1"),
        l2dsr("hop limit 255", &dsr(v6, 255), "10.0.0.1"),
        tunnelled(
            "TTL 2 into a tunnel",
            &Frame::udp(C4, "192.0.2.2:53").ttl(2),
            "10.0.0.2",
        ),
        expired("TTL 1 before a tunnel", &Frame::udp(C4, "192.0.2.2:53").ttl(1)),
        l2dsr("as long as the MTU", &long(13, SMALL), "10.0.0.96"),
        l2dsr(
            "as long as the MTU, with padding",
            &long(13, SMALL).padding(&[0; 4]),
            "10.0.0.96",
        ),
        too_big("longer than the MTU", &long(13, SMALL + 1), SMALL),
        l2dsr("as long as the MTU, IPv6", &long6(13, SMALL), "10.0.0.96"),
        too_big("longer than the MTU, IPv6", &long6(13, SMALL + 1), SMALL),
        tunnelled("4in4 as long as the MTU", &long(14, SMALL - 20), "10.0.0.97"),
        too_big("4in4 longer than the MTU", &long(14, SMALL - 19), SMALL - 20),
        tunnelled("6in4 as long as the MTU", &long6(14, SMALL - 20), "10.0.0.97"),
        too_big("6in4 longer than the MTU", &long6(14, SMALL - 19), SMALL - 20),
        tunnelled("4in6 as long as the MTU", &long(15, SMALL - 40), "2001:db8:b::61"),
        too_big("4in6 longer than the MTU", &long(15, SMALL - 39), SMALL - 40),
        tunnelled(
            "6in6 as long as the MTU",
            &long6(15, SMALL - 40),
            "2001:db8:b::61",
        ),
        too_big("6in6 longer than the MTU", &long6(15, SMALL - 39), SMALL - 40),
        l2dsr(
            "1,500 bytes",
            &Frame::tcp(C4, "192.0.2.1:80").ip_len(1500),
            "10.0.0.1",
        ),
        too_big(
            "merged by the receiver",
            &Frame::tcp(C4, "192.0.2.1:80").ip_len(2900),
            1500,
        ),
        tunnelled(
            "1,480 bytes into 4in4",
            &Frame::tcp(C4, "192.0.2.2:80").ip_len(1480),
            "10.0.0.2",
        ),
        too_big(
            "1,500 bytes into 4in4",
            &Frame::tcp(C4, "192.0.2.2:80").ip_len(1500),
            1480,
        ),
    ]
}

fn without_backend() -> Vec<Row> {
    let row = |name: &str, vip: u8, reason: Reason| {
        let v4 = Frame::tcp(C4, &format!("192.0.2.{vip}:80"));
        let v6 = Frame::tcp(C6, &format!("[2001:db8::{vip:x}]:80"));
        [
            unsent(name, v4, reason),
            unsent(format!("{name}, IPv6"), v6, reason),
        ]
    };
    let mut rows = [
        row("all backends down", 10, NoBackend),
        row("all backends down, on_empty = pass", 11, EmptyPassed),
        row("the backend's next hop is unknown", 12, NoBackend),
        row("no backends declared", 20, NoBackend),
    ]
    .concat();
    let emptied = row("an emptied target", 1, Unresolved).map(|row| row.within(ServiceSet::Emptied));
    rows.extend(emptied);
    rows.push(expired(
        "TTL 1 without backend",
        &Frame::tcp(C4, "192.0.2.10:80").ttl(1),
    ));
    rows
}
