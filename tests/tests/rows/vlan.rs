//! VLAN tags: one or two are looked behind and do not count for the match. Answers keep them; backends without tags of
//! their own get none.

use lb_common::abi::Reason::{BadHeader, NotIp, Truncated};
use lb_packets::Frame;

use super::row::{
    CLIENT4 as C4, CLIENT6 as C6, Row, answered, expired, l2dsr, nat, passed, returned, too_big, tunnelled,
    unsent,
};

const A4: &str = "198.51.100.50";
const A6: &str = "2001:db8:c::50";

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (tags, how) in ways() {
        rows.extend(forwarded(tags, &how));
        rows.extend(told(tags, &how));
        rows.extend(not_forwarded(tags, &how));
    }
    rows.extend(odd_tags());
    rows.push(checksum_at_zero());
    rows
}

/// RFC 768: a checksum that comes to zero is sent as all ones, on the detour as well.
fn checksum_at_zero() -> Row {
    const CHECKSUM: std::ops::Range<usize> = 40..42;
    let row = |n: u16| {
        let datagram = Frame::udp(C4, "192.0.2.5:53").data(&n.to_be_bytes());
        nat(
            "a UDP checksum becomes zero, behind a tag",
            &datagram.tag(0x8100, 7),
            "10.0.0.5:8080",
        )
    };
    let mut rows = (0..=u16::MAX).map(row);
    rows.find(|row| row.output[CHECKSUM] == [0xff, 0xff]).unwrap()
}

/// A way to tag a frame.
type Tagging = dyn Fn(Frame) -> Frame;

fn ways() -> [(&'static str, Box<Tagging>); 4] {
    [
        ("one tag", Box::new(|frame| frame.tag(0x8100, 100))),
        (
            "one tag with a priority",
            Box::new(|frame| frame.tag(0x8100, 0xe000 | 4094)),
        ),
        ("one service tag", Box::new(|frame| frame.tag(0x88a8, 7))),
        (
            "two tags",
            Box::new(|frame| frame.tag(0x88a8, 200).tag(0x8100, 100)),
        ),
    ]
}

fn forwarded(tags: &str, how: &Tagging) -> Vec<Row> {
    let tcp4 = |to: &str| how(Frame::tcp(C4, to));
    let tcp6 = |to: &str| how(Frame::tcp(C6, to));
    let name = |what: &str| format!("{what} behind {tags}");
    let options = tcp4("192.0.2.5:80").ip_options(&[1; 8]);
    vec![
        l2dsr(&name("TCP over IPv4"), &tcp4("192.0.2.1:80"), "10.0.0.1"),
        l2dsr(&name("TCP over IPv6"), &tcp6("[2001:db8::1]:80"), "10.0.0.1"),
        l2dsr(
            &name("UDP over IPv4"),
            &how(Frame::udp(C4, "192.0.2.1:53")),
            "10.0.0.1",
        ),
        l2dsr(
            &name("UDP over IPv6"),
            &how(Frame::udp(C6, "[2001:db8::1]:53")),
            "10.0.0.1",
        ),
        l2dsr(
            &name("padding"),
            &tcp4("192.0.2.1:80").padding(&[0xee; 4]),
            "10.0.0.1",
        ),
        tunnelled(&name("4in4"), &tcp4("192.0.2.2:80"), "10.0.0.2"),
        tunnelled(&name("6in4"), &tcp6("[2001:db8::2]:80").tos(0xb9), "10.0.0.2"),
        tunnelled(&name("4in6"), &tcp4("192.0.2.3:80").tos(3), "2001:db8:b::3"),
        tunnelled(&name("6in6"), &tcp6("[2001:db8::3]:80"), "2001:db8:b::3"),
        nat(&name("nat over IPv4"), &tcp4("192.0.2.4:80"), "10.0.0.4"),
        nat(&name("nat over IPv6"), &tcp6("[2001:db8::4]:80"), "2001:db8:b::4"),
        nat(&name("nat with options"), &options, "10.0.0.5:8080"),
        returned(
            &name("back from nat over IPv4"),
            &how(Frame::tcp("10.0.0.4:80", C4)),
            "192.0.2.4:80",
            "10.0.0.4",
        ),
        returned(
            &name("back from nat over IPv6"),
            &how(Frame::tcp("[2001:db8:b::4]:80", C6)),
            "[2001:db8::4]:80",
            "2001:db8:b::4",
        ),
    ]
}

fn told(tags: &str, how: &Tagging) -> Vec<Row> {
    let name = |what: &str| format!("{what} behind {tags}");
    let long4 = how(Frame::udp(C4, "192.0.2.13:53").ip_len(1400));
    let long6 = how(Frame::udp(C6, "[2001:db8::d]:53").ip_len(1400));
    vec![
        answered(&name("echo over IPv4"), &how(Frame::echo(A4, "192.0.2.1"))),
        answered(&name("echo over IPv6"), &how(Frame::echo(A6, "2001:db8::1"))),
        answered(
            &name("echo of an odd length"),
            &how(Frame::echo(A6, "2001:db8::1").ip_len(77)),
        ),
        too_big(name("too big over IPv4"), &long4, super::service_set::SMALL),
        too_big(name("too big over IPv6"), &long6, super::service_set::SMALL),
        expired(
            name("TTL 1 over IPv4"),
            &how(Frame::tcp(C4, "192.0.2.1:80").ttl(1)),
        ),
        expired(
            name("TTL 1 over IPv6"),
            &how(Frame::tcp(C6, "[2001:db8::1]:80").ttl(1)),
        ),
    ]
}

fn not_forwarded(tags: &str, how: &Tagging) -> Vec<Row> {
    let name = |what: &str| format!("{what} behind {tags}");
    let tcp = || how(Frame::tcp(C4, "192.0.2.1:80"));
    let start = 14 + 4 * tcp().tags.len();
    let cut = |len: usize| tcp().bytes()[..len].to_vec();
    let mut wrong_version = tcp().bytes();
    wrong_version[start] = 0x65;
    vec![
        passed(name("a host"), how(Frame::tcp(C4, "192.0.2.200:80"))),
        passed(
            name("a host over IPv6"),
            how(Frame::udp(C6, "[2001:db8::200]:53")),
        ),
        passed(name("another port"), how(Frame::tcp(C4, "192.0.2.1:81"))),
        passed(
            name("an echo request to a host"),
            how(Frame::echo(A4, "192.0.2.200")),
        ),
        unsent(
            name("an IP header cut in its addresses"),
            cut(start + 19),
            lb_common::abi::Reason::NoService,
        ),
        unsent(name("a tag cut"), cut(start - 1), NotIp),
        unsent(name("a TCP header cut"), cut(start + 39), Truncated),
        unsent(name("a wrong version"), wrong_version, BadHeader),
    ]
}

fn odd_tags() -> Vec<Row> {
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[0; 20]].concat();
    let mut tagged_arp = Frame::tcp(C4, "192.0.2.1:80").macs.concat();
    tagged_arp.extend([0x81, 0, 0, 5, 0x08, 0x06]);
    tagged_arp.extend(arp);
    let tcp = || Frame::tcp(C4, "192.0.2.1:80");
    vec![
        unsent("ARP behind a tag", tagged_arp, NotIp),
        unsent(
            "three tags",
            tcp().tag(0x88a8, 1).tag(0x8100, 2).tag(0x8100, 3),
            NotIp,
        ),
        unsent("a tag of MPLS", tcp().tag(0x8847, 1), NotIp),
        unsent("a tag of the old kind", tcp().tag(0x9100, 1), NotIp),
        l2dsr(
            "two tags of one kind",
            &tcp().tag(0x8100, 1).tag(0x8100, 2),
            "10.0.0.1",
        ),
        l2dsr(
            "the service tag inside",
            &tcp().tag(0x8100, 1).tag(0x88a8, 2),
            "10.0.0.1",
        ),
        l2dsr("the priority tag", &tcp().tag(0x8100, 0), "10.0.0.1"),
    ]
}
