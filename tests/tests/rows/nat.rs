//! The `nat` forwarder: to the backend, and back to the client.

use lb_common::abi::Reason::NoWayBack;
use lb_packets::Frame;

use super::{
    routes::BACK_MTU,
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, by_host, expired, nat, passed, returned, too_big, unsent},
    service_set::{SMALL, ServiceSet},
};

const SYN: u8 = 0x02;

pub(crate) fn rows() -> Vec<Row> {
    [forth(), back(), no_way_back(), checksums_at_zero()].concat()
}

fn forth() -> Vec<Row> {
    let long = |len| Frame::udp(C4, "192.0.2.16:53").ip_len(len);
    let long6 = |len| Frame::udp(C6, "[2001:db8::10]:53").ip_len(len);
    let damaged = || Frame::tcp(C4, "192.0.2.5:80");
    let optional = Frame::tcp(C4, "192.0.2.5:80")
        .ip_options(&[1; 8])
        .tcp_options(&[1; 12]);
    vec![
        nat("nat, TCP over IPv4", &Frame::tcp(C4, "192.0.2.4:80"), "10.0.0.4"),
        nat("nat, UDP over IPv4", &Frame::udp(C4, "192.0.2.4:53"), "10.0.0.4"),
        nat(
            "nat, TCP over IPv6",
            &Frame::tcp(C6, "[2001:db8::4]:80"),
            "2001:db8:b::4",
        ),
        nat(
            "nat, UDP over IPv6",
            &Frame::udp(C6, "[2001:db8::4]:53"),
            "2001:db8:b::4",
        ),
        nat("nat, SYN", &Frame::tcp(C4, "192.0.2.4:80").flags(SYN), "10.0.0.4"),
        nat(
            "nat to another port, TCP over IPv4",
            &Frame::tcp(C4, "192.0.2.5:80"),
            "10.0.0.5:8080",
        ),
        nat(
            "nat to another port, UDP over IPv4",
            &Frame::udp(C4, "192.0.2.5:53"),
            "10.0.0.5:8080",
        ),
        nat(
            "nat to another port, TCP over IPv6",
            &Frame::tcp(C6, "[2001:db8::5]:80"),
            "[2001:db8:b::5]:8080",
        ),
        nat(
            "nat to another port, UDP over IPv6",
            &Frame::udp(C6, "[2001:db8::5]:53"),
            "[2001:db8:b::5]:8080",
        ),
        nat(
            "nat of any port keeps the port",
            &Frame::udp(C4, "192.0.2.7:4500"),
            "10.0.0.7",
        ),
        nat(
            "nat of any port, IPv6",
            &Frame::udp(C6, "[2001:db8::7]:4500"),
            "2001:db8:b::7",
        ),
        nat(
            "nat, UDP without checksum",
            &Frame::udp(C4, "192.0.2.5:53").unsummed(),
            "10.0.0.5:8080",
        ),
        nat("nat, IPv4 and TCP options", &optional, "10.0.0.5:8080"),
        nat(
            "nat, data of an odd length",
            &Frame::tcp(C4, "192.0.2.5:80").data(b"odd"),
            "10.0.0.5:8080",
        ),
        nat(
            "nat, padding",
            &Frame::tcp(C4, "192.0.2.4:80").data(&[]).padding(&[0xee; 6]),
            "10.0.0.4",
        ),
        nat("nat, TTL 2", &Frame::tcp(C4, "192.0.2.4:80").ttl(2), "10.0.0.4"),
        nat(
            "nat, TTL 255",
            &Frame::tcp(C4, "192.0.2.4:80").ttl(255),
            "10.0.0.4",
        ),
        expired("nat, TTL 1", &Frame::tcp(C4, "192.0.2.4:80").ttl(1)),
        nat("nat, damaged data stays noticed", &damaged(), "10.0.0.5:8080").damaged(),
        nat("nat as long as the MTU", &long(SMALL), "10.0.0.98"),
        too_big("nat longer than the MTU", &long(SMALL + 1), SMALL),
        nat("nat as long as the MTU, IPv6", &long6(SMALL), "2001:db8:b::62"),
        too_big("nat longer than the MTU, IPv6", &long6(SMALL + 1), SMALL),
        nat(
            "nat out of the other interface",
            &Frame::tcp(C4, "192.0.2.19:80"),
            "10.0.1.176",
        )
        .redirected(),
        nat(
            "nat out of the other interface, IPv6",
            &Frame::tcp(C6, "[2001:db8::13]:80"),
            "2001:db8:b::1:b0",
        )
        .redirected(),
    ]
}

fn back() -> Vec<Row> {
    let tcp4 = || Frame::tcp("10.0.0.4:80", C4);
    let tcp6 = || Frame::tcp("[2001:db8:b::4]:80", C6);
    let udp5 = || Frame::udp("10.0.0.5:8080", C4);
    let away = Frame::tcp("10.0.0.4:80", "203.0.113.9:40000");
    let away6 = Frame::tcp("[2001:db8:b::4]:80", "[2001:db8:ee::9]:40000");
    let (vip4, vip6) = ("192.0.2.4:80", "[2001:db8::4]:80");
    let (b4, b6) = ("10.0.0.4", "2001:db8:b::4");
    let (b5, b56) = ("10.0.0.5:8080", "[2001:db8:b::5]:8080");
    vec![
        returned("back, TCP over IPv4", &tcp4(), vip4, b4),
        returned(
            "back, UDP over IPv4",
            &Frame::udp("10.0.0.4:53", C4),
            "192.0.2.4:53",
            b4,
        ),
        returned("back, TCP over IPv6", &tcp6(), vip6, b6),
        returned(
            "back, UDP over IPv6",
            &Frame::udp("[2001:db8:b::4]:53", C6),
            "[2001:db8::4]:53",
            b6,
        ),
        returned("back, SYN and ACK", &tcp4().flags(0x12), vip4, b4),
        returned("back, RST", &tcp4().flags(0x04).data(&[]), vip4, b4),
        returned(
            "back from another port, TCP over IPv4",
            &Frame::tcp(b5, C4),
            "192.0.2.5:80",
            b5,
        ),
        returned(
            "back from another port, UDP over IPv4",
            &udp5(),
            "192.0.2.5:53",
            b5,
        ),
        returned(
            "back from another port, TCP over IPv6",
            &Frame::tcp(b56, C6),
            "[2001:db8::5]:80",
            b56,
        ),
        returned(
            "back from another port, UDP over IPv6",
            &Frame::udp(b56, C6),
            "[2001:db8::5]:53",
            b56,
        ),
        returned(
            "back from any port",
            &Frame::udp("10.0.0.7:999", C4),
            "192.0.2.7:999",
            "10.0.0.7",
        ),
        returned(
            "back, UDP without checksum",
            &udp5().unsummed(),
            "192.0.2.5:53",
            b5,
        ),
        returned(
            "back, IPv4 and TCP options",
            &tcp4().ip_options(&[1; 4]).tcp_options(&[1; 4]),
            vip4,
            b4,
        ),
        returned("back, padding", &tcp4().padding(&[0xee; 5]), vip4, b4),
        returned("back, TTL 2", &tcp4().ttl(2), vip4, b4),
        returned("back, hop limit 255", &tcp6().ttl(255), vip6, b6),
        returned("back, damaged data stays noticed", &tcp4(), vip4, b4).damaged(),
        returned("back, 1,500 bytes", &tcp4().ip_len(1500), vip4, b4),
        returned("back out of the other interface", &away, vip4, b4).redirected(),
        returned("back out of the other interface, IPv6", &away6, vip6, b6).redirected(),
        expired("back, TTL 1", &tcp4().ttl(1)),
        expired("back, hop limit 1", &tcp6().ttl(1)),
        passed("from a backend's other port", Frame::tcp("10.0.0.4:22", C4)),
        passed(
            "from a backend by the other protocol",
            Frame::udp("10.0.0.4:80", C4),
        ),
        passed(
            "from a backend's service port where ports are translated",
            Frame::tcp("10.0.0.5:80", C4),
        ),
        passed("from an l2dsr backend", Frame::tcp("10.0.0.1:80", C4)),
        passed("from a nat backend, without nat services", tcp4()).within(ServiceSet::Plain),
        passed(
            "ICMP from a nat backend",
            Frame::icmp("10.0.0.4", "198.51.100.50", [3, 3], vec![0; 32]),
        ),
    ]
}

fn no_way_back() -> Vec<Row> {
    let narrow = |len| Frame::tcp("10.0.0.4:80", "203.0.113.9:40000").ip_len(len);
    let narrow6 = |len| Frame::tcp("[2001:db8:b::4]:80", "[2001:db8:ee::9]:40000").ip_len(len);
    vec![
        passed(
            "the answer to a health check",
            Frame::tcp("10.0.0.4:80", "198.51.100.1:40000"),
        ),
        passed(
            "the answer to a health check, IPv6",
            Frame::tcp("[2001:db8:b::4]:80", "[2001:db8:c::1]:40000"),
        ),
        passed(
            "the answer to a health check with TTL 1",
            Frame::tcp("10.0.0.4:80", "198.51.100.1:40000").ttl(1),
        ),
        by_host(
            "back to a client whose MAC address is not known",
            &Frame::tcp("10.0.0.4:80", "198.51.100.200:40000"),
            "192.0.2.4:80",
            "10.0.0.4",
        ),
        by_host(
            "back to a client whose MAC address is not known, IPv6",
            &Frame::tcp("[2001:db8:b::4]:80", "[2001:db8:c::200]:40000"),
            "[2001:db8::4]:80",
            "2001:db8:b::4",
        ),
        by_host(
            "back to a client whose MAC address is not known, from behind tags",
            &Frame::tcp("10.0.0.4:80", "198.51.100.200:40000").tag(0x8100, 7),
            "192.0.2.4:80",
            "10.0.0.4",
        ),
        unsent(
            "back to a client that routes forbid",
            Frame::tcp("10.0.0.4:80", "203.0.115.9:40000"),
            NoWayBack,
        ),
        unsent(
            "back to a client that routes forbid, IPv6",
            Frame::tcp("[2001:db8:b::4]:80", "[2001:db8:f1::9]:40000"),
            NoWayBack,
        ),
        // The kernel does not tell "no route" from "my own address".
        passed(
            "back to a client without a route",
            Frame::tcp("10.0.0.4:80", "100.64.0.1:40000"),
        ),
        passed(
            "back to a client without a route, IPv6",
            Frame::tcp("[2001:db8:b::4]:80", "[2001:db8:dd::1]:40000"),
        ),
        returned(
            "back, as long as the way carries",
            &narrow(BACK_MTU),
            "192.0.2.4:80",
            "10.0.0.4",
        )
        .redirected(),
        too_big(
            "back, longer than the way carries",
            &narrow(BACK_MTU + 1),
            BACK_MTU,
        ),
        returned(
            "back, as long as the way carries, IPv6",
            &narrow6(BACK_MTU),
            "[2001:db8::4]:80",
            "2001:db8:b::4",
        )
        .redirected(),
        too_big(
            "back, longer than the way carries, IPv6",
            &narrow6(BACK_MTU + 1),
            BACK_MTU,
        ),
    ]
}

/// RFC 768: a checksum that comes to zero is sent as all ones, which says the same.
fn checksums_at_zero() -> Vec<Row> {
    const CHECKSUM: std::ops::Range<usize> = 40..42;
    let candidates = || (0..=u16::MAX).map(|n| Frame::udp(C4, "192.0.2.5:53").data(&n.to_be_bytes()));
    let ones = |bytes: &[u8]| bytes[CHECKSUM] == [0xff, 0xff];
    let row = |name: &str, frame: &Frame| nat(name, frame, "10.0.0.5:8080");
    let becomes = candidates()
        .map(|f| row("a UDP checksum becomes zero", &f))
        .find(|r| ones(&r.output));
    let was = candidates()
        .map(|f| row("a UDP checksum was zero", &f))
        .find(|r| ones(&r.input));
    vec![becomes.unwrap(), was.unwrap()]
}
