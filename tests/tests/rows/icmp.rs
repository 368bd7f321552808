//! ICMP: echo requests to VIPs are answered; all else of it but errors about flows is the host's.

use lb_common::abi::Reason::{OtherHost, Truncated};
use lb_packets::Frame;

use super::{
    host::{Host, INTERFACES},
    row::{Row, answered, passed, unsent},
    service_set::ServiceSet,
};

const C4: &str = "198.51.100.50";
const C6: &str = "2001:db8:c::50";

pub(crate) fn rows() -> Vec<Row> {
    [answers(), answers_that_come_to_zero(), not_answered(), others()].concat()
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

/// Replies whose words come to zero: the checksum is 0, but 0xffff where all of them are 0, as 0 and 0 are not all ones
/// (RFC 1624 §3).
fn answers_that_come_to_zero() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name: &str, rest: &[u8]| {
        let v4 = Frame::echo(C4, "192.0.2.1").data(rest);
        let v6 = Frame::echo(C6, "2001:db8::1").data(rest);
        rows.extend([
            answered(&format!("{name}, IPv6"), &v6),
            answered(&format!("{name}, behind a tag"), &v4.clone().tag(0x8100, 7)),
            answered(name, &v4),
        ]);
    };
    for len in [0, 1, 2, 3, 4, 31, 32, 33, 56, 1000, 1251, 1252, 1253, 1472] {
        row(&format!("echo of zeros, {len} bytes of data"), &vec![0; 4 + len]);
    }
    row("echo whose identifier is all ones", &[0xff, 0xff, 0, 0]);
    row("echo whose sequence number is all ones", &[0, 0, 0xff, 0xff]);
    row("echo whose words come to zero", &[0x12, 0x34, 0xed, 0xcb]);
    row("echo whose data is all ones", &[0, 0, 0, 0, 0xff, 0xff]);
    row("echo whose odd data is all ones", &[0, 0, 0, 0, 0, 0xff, 0xff]);
    row(
        "echo whose last word is all ones",
        &[&[0; 1000][..], &[0xff, 0xff]].concat(),
    );
    row("echo one more than all ones", &[0, 1, 0xff, 0xff]);
    rows
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
        passed("echo without services", v4()).within(ServiceSet::Nothing),
        passed("echo with IPv4 options", v4().ip_options(&[1; 4])),
        unsent(
            "echo to all hosts of the link",
            v4().macs([0xff; 6], v4().macs[1]),
            OtherHost,
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

/// Each identifier, with the sequence number that makes all words come to zero, and with some that do not.
#[test]
fn every_reply_has_the_checksum_that_would_be_made_anew() {
    let mut host = Host::new(ServiceSet::Full, INTERFACES);
    for id in 0..=u16::MAX {
        for sequence in [0, !id, !id.wrapping_add(1)] {
            let rest = [id.to_be_bytes(), sequence.to_be_bytes()].concat();
            let row = answered("echo", &Frame::echo(C4, "192.0.2.1").data(&rest));
            let verdict = host.run(&row.input);
            assert_eq!(verdict.frame, row.output, "{rest:02x?}");
        }
    }
}
