//! ICMP: echo requests to VIPs are answered; all else of it but errors about flows is the host's.

use lb_common::abi::Reason::Truncated;
use lb_tests::packets::Frame;

use super::{
    row::{Row, answered, passed, unsent},
    world::World,
};

const C4: &str = "198.51.100.50";
const C6: &str = "2001:db8:c::50";

pub(crate) fn rows() -> Vec<Row> {
    [answers(), not_answered(), others()].concat()
}

fn answers() -> Vec<Row> {
    let v4 = || Frame::echo(C4, "192.0.2.1");
    let v6 = || Frame::echo(C6, "2001:db8::1");
    vec![
        answered("echo, IPv4", &v4()),
        answered("echo, IPv6", &v6()),
        answered("echo to a VIP of UDP only", &Frame::echo(C4, "192.0.2.17")),
        answered("echo to a VIP without backends", &Frame::echo(C4, "192.0.2.20")),
        answered("echo to a nat VIP", &Frame::echo(C6, "2001:db8::4")),
        answered("echo without data", &v4().data(&[0, 1, 0, 2])),
        answered("echo without data, IPv6", &v6().data(&[0, 1, 0, 2])),
        answered("echo of 1,500 bytes", &v4().ip_len(1500)),
        answered("echo of an odd length", &v6().ip_len(101)),
        answered("echo, TTL 1", &v4().ttl(1)),
        answered("echo, TTL 64", &v4().ttl(64)),
        answered("echo, TTL 255", &v4().ttl(255)),
        answered("echo, hop limit 1", &v6().ttl(1)),
        answered("echo, type of service", &v4().tos(0xff)),
        answered("echo, padding", &v4().padding(&[0xee; 4])),
        answered("echo, padding, IPv6", &v6().padding(&[0xee; 4])),
        answered("echo, damaged data stays noticed", &v4()).damaged(),
        answered("echo, damaged data stays noticed, IPv6", &v6()).damaged(),
    ]
}

fn not_answered() -> Vec<Row> {
    let v4 = || Frame::echo(C4, "192.0.2.1");
    let short = |n: usize| Frame::raw(C4, "192.0.2.1", 1, &[8, 0, 0, 0, 0, 0, 0, 0][..n]);
    let short6 = |n: usize| Frame::raw(C6, "2001:db8::1", 58, &[128, 0, 0, 0, 0, 0, 0, 0][..n]);
    vec![
        passed("echo to a host", Frame::echo(C4, "192.0.2.200")),
        passed("echo to a host, IPv6", Frame::echo(C6, "2001:db8::200")),
        passed("echo to a backend", Frame::echo(C4, "10.0.0.1")),
        passed("echo to the balancer", Frame::echo(C4, "198.51.100.1")),
        passed("echo without services", v4()).within(World::Nothing),
        passed("echo with IPv4 options", v4().ip_options(&[1; 4])),
        passed(
            "echo to all hosts of the link",
            v4().macs([0xff; 6], v4().macs[1]),
        ),
        passed("echo from a group", v4().from("224.0.0.5".parse().unwrap(), 0)),
        passed(
            "echo from all hosts",
            v4().from("255.255.255.255".parse().unwrap(), 0),
        ),
        passed(
            "echo from a group, IPv6",
            Frame::echo(C6, "2001:db8::1").from("ff02::1".parse().unwrap(), 0),
        ),
        passed("echo in fragments, the first", v4().fragment(0x2000)),
        passed("echo in fragments, the last", v4().fragment(0x0010)),
        passed(
            "echo with a code",
            Frame::icmp(C4, "192.0.2.1", [8, 1], vec![0; 4]),
        ),
        passed(
            "echo with a code, IPv6",
            Frame::icmp(C6, "2001:db8::1", [128, 1], vec![0; 4]),
        ),
        passed(
            "echo reply to a VIP",
            Frame::icmp(C4, "192.0.2.1", [0, 0], vec![0; 4]),
        ),
        passed(
            "echo reply to a VIP, IPv6",
            Frame::icmp(C6, "2001:db8::1", [129, 0], vec![0; 4]),
        ),
        passed("ICMPv6 in IPv4", Frame::raw(C4, "192.0.2.1", 58, &[128; 16])),
        passed("ICMP in IPv6", Frame::raw(C6, "2001:db8::1", 1, &[8; 16])),
        unsent("an echo header of 0 bytes", short(0), Truncated),
        unsent("an echo header of 7 bytes", short(7), Truncated),
        unsent(
            "an echo header of 7 bytes, with padding",
            short(7).padding(&[0; 20]),
            Truncated,
        ),
        unsent("an echo header of 0 bytes, IPv6", short6(0), Truncated),
        unsent("an echo header of 7 bytes, IPv6", short6(7), Truncated),
        passed(
            "an echo header of 7 bytes to a host",
            Frame::raw(C4, "192.0.2.200", 1, &[8; 7]),
        ),
    ]
}

fn others() -> Vec<Row> {
    vec![
        passed(
            "timestamp request, to a VIP",
            Frame::icmp(C4, "192.0.2.1", [13, 0], vec![0; 16]),
        ),
        passed(
            "neighbour solicitation for a VIP",
            Frame::icmp(C6, "ff02::1:ff00:1", [135, 0], vec![0; 20]).ttl(255),
        ),
        passed(
            "neighbour solicitation to a VIP",
            Frame::icmp(C6, "2001:db8::1", [135, 0], vec![0; 20]).ttl(255),
        ),
        passed(
            "router advertisement",
            Frame::icmp("fe80::1", "ff02::1", [134, 0], vec![0; 12]).ttl(255),
        ),
    ]
}
