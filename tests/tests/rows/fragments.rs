//! Fragments: later ones follow the first, or all of them go by their addresses, or none goes; and what is no honest
//! fragment.

use std::net::IpAddr;

use lb_common::abi::Reason::{BadFragment, Fragment, NoService, Truncated};
use lb_packets::{Frame, flow_hash};
use lb_world::SEED;

use super::{
    options::{HASH3, NO_FRAGMENTS, PLAIN, vip4, vip6},
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, expired, l2dsr, passed, too_big, tunnelled, unsent},
    service_set::{SMALL, ServiceSet},
};

const A4: &str = "198.51.100.50";
const A6: &str = "2001:db8:c::50";
const VIP6: &str = "2001:db8::1";
const BACKEND: &str = "10.0.0.1";

pub(crate) fn rows() -> Vec<Row> {
    let optional = [followed(), in_odd_orders(), by_addresses(), dropped()].concat();
    let optional = optional.into_iter().map(|row| row.within(ServiceSet::Options));
    let plain = [
        in_tunnels(),
        strangers(),
        tiny(),
        misplaced(),
        atomic(),
        headers6(),
    ]
    .concat();
    optional.chain(plain).collect()
}

/// A datagram of 100 bytes behind its UDP header, by the number that it is identified by: no two rows share one.
fn datagram(to: &str, id: u32) -> Frame {
    let from = if to.starts_with('[') { C6 } else { C4 };
    let data: Vec<u8> = (0..100).collect();
    Frame::udp(from, to).data(&data).label(id).fragment(0)
}

fn segment(to: &str, id: u32) -> Frame {
    let from = if to.starts_with('[') { C6 } else { C4 };
    Frame::tcp(from, to).data(&[9; 100]).label(id).fragment(0)
}

/// All fragments of a packet, one row each; rows run in order.
fn in_order(name: &str, packet: &Frame, len: usize, row: impl Fn(&str, &Frame) -> Row) -> Vec<Row> {
    let fragments = packet.in_fragments(len);
    let one =
        |(i, fragment): (usize, &Frame)| row(&format!("{name}, fragment {i}"), fragment).of_flow(packet);
    fragments.iter().enumerate().map(one).collect()
}

fn to_backend(name: &str, fragment: &Frame) -> Row {
    l2dsr(name, fragment, BACKEND)
}

fn followed() -> Vec<Row> {
    let (udp4, udp6) = (vip4(PLAIN, 53), vip6(PLAIN, 53));
    let (tcp4, tcp6) = (vip4(PLAIN, 80), vip6(PLAIN, 80));
    let tagged = |fragment: &Frame| fragment.clone().tag(0x8100, 77);
    let options = datagram(&udp4, 0x110).ip_options(&[1; 8]);
    let extended = datagram(&udp6, 0x111).extension(0, &[0, 1, 4, 0, 0, 0, 0]);
    [
        in_order("UDP over IPv4", &datagram(&udp4, 0x101), 40, to_backend),
        in_order("UDP over IPv6", &datagram(&udp6, 0x102), 40, to_backend),
        in_order("TCP over IPv4", &segment(&tcp4, 0x103), 40, to_backend),
        in_order("TCP over IPv6", &segment(&tcp6, 0x104), 40, to_backend),
        in_order("UDP in two halves", &datagram(&udp4, 0x105), 56, to_backend),
        in_order("UDP in many fragments", &datagram(&udp6, 0x106), 8, to_backend),
        in_order(
            "UDP behind tags",
            &tagged(&datagram(&udp4, 0x107)),
            56,
            to_backend,
        ),
        in_order(
            "UDP over IPv6 behind tags",
            &tagged(&datagram(&udp6, 0x108)),
            56,
            to_backend,
        ),
        in_order("UDP with IPv4 options", &options, 56, to_backend),
        in_order("UDP behind hop-by-hop options", &extended, 56, to_backend),
        behind_options(&datagram(&udp6, 0x112)),
    ]
    .concat()
}

/// Destination options are for whoever puts the packet together: they are in the first fragment, and all name them as
/// what they carry (RFC 8200 §4.1, §4.5).
fn behind_options(packet: &Frame) -> Vec<Row> {
    const DESTINATION: u8 = 60;
    const UDP: u8 = 17;
    let payload = [&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &packet.payload_bytes()].concat();
    let raw = Frame::raw(A6, &packet.destination.to_string(), DESTINATION, &payload).label(packet.label);
    let fragments = raw.in_fragments(40);
    let one = |(i, fragment): (usize, &Frame)| {
        let name = format!("UDP behind destination options, fragment {i}");
        to_backend(&name, fragment).of_flow(packet)
    };
    fragments.iter().enumerate().map(one).collect()
}

/// A later fragment, after some of the others.
fn after(name: &str, packet: &Frame, order: &[usize], len: usize) -> Row {
    let fragments = packet.in_fragments(len);
    let (last, before) = order.split_last().expect("a fragment");
    let before: Vec<Frame> = before.iter().map(|i| fragments[*i].clone()).collect();
    to_backend(name, &fragments[*last]).of_flow(packet).after(&before)
}

fn in_odd_orders() -> Vec<Row> {
    let (udp4, udp6) = (vip4(PLAIN, 53), vip6(PLAIN, 53));
    let dropped = |name: &str, packet: Frame, order: &[usize], reason| {
        let row = after(name, &packet, order, 40);
        Row {
            output: row.input.clone(),
            reason,
            backend: None,
            hash: None,
            ..row
        }
    };
    let other = |frame: Frame| frame.from("198.51.100.51".parse().unwrap(), 0);
    let stranger = other(datagram(&udp4, 0x128)).in_fragments(40)[1].clone();
    let longer = datagram(&udp4, 0x129).in_fragments(48);
    let honest = datagram(&udp4, 0x129).in_fragments(40);
    vec![
        after(
            "the last fragment before the middle",
            &datagram(&udp4, 0x121),
            &[0, 2],
            40,
        ),
        after(
            "the middle after the last",
            &datagram(&udp4, 0x122),
            &[0, 2, 1],
            40,
        ),
        after(
            "the last before the middle, IPv6",
            &datagram(&udp6, 0x123),
            &[0, 2],
            40,
        ),
        dropped("before the first", datagram(&udp4, 0x125), &[1], Fragment),
        dropped(
            "the last before the first",
            datagram(&udp6, 0x126),
            &[2],
            Fragment,
        ),
        dropped(
            "the same fragment again",
            datagram(&udp4, 0x127),
            &[0, 1, 1],
            BadFragment,
        ),
        dropped(
            "the first fragment again",
            datagram(&udp6, 0x12a),
            &[0, 1, 0],
            BadFragment,
        ),
        dropped(
            "a fragment when all have gone by",
            datagram(&udp4, 0x12b),
            &[0, 1, 2, 1],
            Fragment,
        ),
        unsent("another client's fragment of that number", stranger, Fragment)
            .after(&datagram(&udp4, 0x128).in_fragments(40)[..1]),
        unsent(
            "a fragment that overlaps the first",
            honest[1].clone(),
            BadFragment,
        )
        .after(&longer[..1]),
        unsent(
            "a fragment that overlaps a later one",
            datagram(&udp4, 0x12c).in_fragments(48)[1].clone(),
            BadFragment,
        )
        .after(&datagram(&udp4, 0x12c).in_fragments(40)[..2]),
        unsent(
            "a fragment beyond the end",
            Frame::raw(A4, "192.0.2.1", 17, &[0; 16])
                .label(0x12d)
                .fragment(0x2000 | 100),
            BadFragment,
        )
        .after(&[
            datagram(&udp4, 0x12d).in_fragments(40)[0].clone(),
            datagram(&udp4, 0x12d).in_fragments(40)[2].clone(),
        ]),
        after(
            "a new packet of a number that is over",
            &datagram(&udp4, 0x12e),
            &[0, 1, 2, 0],
            40,
        ),
        passed_first("a port without service, the first fragment", 0x130),
        passed_later("a port without service, a later fragment", 0x131),
    ]
}

fn passed_first(name: &str, id: u32) -> Row {
    passed(name, datagram(&vip4(PLAIN, 54), id).in_fragments(40)[0].clone())
}

fn passed_later(name: &str, id: u32) -> Row {
    let fragments = datagram(&vip4(PLAIN, 54), id).in_fragments(40);
    passed(name, fragments[1].clone()).after(&fragments[..1])
}

/// Fragments that go by source and protocol alone.
fn by_addresses() -> Vec<Row> {
    let hash = |frame: &Frame| Some(flow_hash(frame.source, [0, 0], SEED));
    let mut rows = Vec::new();
    for (family, to, id) in [("IPv4", vip4(HASH3, 53), 0x140), ("IPv6", vip6(HASH3, 53), 0x150)] {
        let packet = datagram(&to, id);
        for (order, i) in [(0, 2), (1, 0), (2, 1)] {
            let fragment = &packet.in_fragments(40)[i];
            let name = format!("by addresses, {family}, fragment {i} as number {order}");
            rows.push(Row {
                hash: hash(fragment),
                ..to_backend(&name, fragment)
            });
        }
        let whole = datagram(&to, id + 1);
        rows.push(to_backend(
            &format!("by addresses, {family}, a whole packet"),
            &whole,
        ));
    }
    let tcp = segment(&vip4(HASH3, 80), 0x160).in_fragments(40);
    rows.push(passed("TCP, where only UDP goes by addresses", tcp[1].clone()));
    rows
}

fn dropped() -> Vec<Row> {
    let to = vip4(NO_FRAGMENTS, 53);
    let fragments = datagram(&to, 0x170).in_fragments(40);
    let fragments6 = datagram(&vip6(NO_FRAGMENTS, 53), 0x171).in_fragments(40);
    vec![
        unsent("no fragments wanted, the first", fragments[0].clone(), Fragment),
        unsent("no fragments wanted, a later one", fragments[1].clone(), Fragment),
        unsent(
            "no fragments wanted, the first, IPv6",
            fragments6[0].clone(),
            Fragment,
        ),
        unsent(
            "no fragments wanted, the last, IPv6",
            fragments6[2].clone(),
            Fragment,
        ),
        to_backend("no fragments wanted, a whole packet", &datagram(&to, 0x172)),
        to_backend(
            "no fragments wanted, an atomic one",
            &datagram(&vip6(NO_FRAGMENTS, 53), 0x173).fragment6(0, false),
        ),
    ]
}

fn in_tunnels() -> Vec<Row> {
    let narrow = datagram("192.0.2.13:53", 0x186).ip_len(SMALL + 200);
    let first = &narrow.in_fragments(SMALL + 8)[0];
    let single = |packet: &Frame| packet.in_fragments(56)[0].clone();
    let later = |packet: &Frame| packet.in_fragments(56)[1].clone().ttl(1);
    let gone = datagram("192.0.2.1:53", 0x188);
    [
        in_order("4in4", &datagram("192.0.2.2:53", 0x181), 56, |name, fragment| {
            tunnelled_fragment(name, fragment, &datagram("192.0.2.2:53", 0x181), "10.0.0.2")
        }),
        in_order(
            "6in4",
            &datagram("[2001:db8::2]:53", 0x182),
            56,
            |name, fragment| {
                tunnelled_fragment(name, fragment, &datagram("[2001:db8::2]:53", 0x182), "10.0.0.2")
            },
        ),
        vec![
            too_big("the first fragment, too big", first, SMALL),
            expired(
                "the first fragment, TTL 1",
                &single(&datagram("192.0.2.1:53", 0x187)).ttl(1),
            ),
            unsent(
                "a later fragment, TTL 1",
                later(&gone),
                lb_common::abi::Reason::TtlExpired,
            )
            .after(&[single(&gone)]),
        ],
    ]
    .concat()
}

fn tunnelled_fragment(name: &str, fragment: &Frame, packet: &Frame, backend: &str) -> Row {
    tunnelled(name, fragment, backend).of_flow(packet)
}

/// Fragments of packets whose first nobody saw, or that are for nobody.
fn strangers() -> Vec<Row> {
    const PLACES: [(&str, u16); 2] = [("middle", 0x2010), ("last", 0x0020)];
    let mut rows = Vec::new();
    for (place, word) in PLACES {
        let to = |vip: &str, protocol, len: usize| {
            Frame::raw(A4, vip, protocol, &vec![3; len])
                .label(0x190)
                .fragment(word)
        };
        rows.extend([
            unsent(
                format!("fragment, {place}, TCP"),
                to("192.0.2.1", 6, 24),
                Fragment,
            ),
            unsent(
                format!("fragment, {place}, UDP"),
                to("192.0.2.1", 17, 24),
                Fragment,
            ),
            passed(
                format!("fragment, {place}, a VIP without that protocol"),
                to("192.0.2.17", 6, 24),
            ),
            passed(format!("fragment, {place}, a host"), to("192.0.2.200", 17, 24)),
            passed(format!("fragment, {place}, ICMP"), to("192.0.2.1", 1, 24)),
            passed(format!("fragment, {place}, GRE"), to("192.0.2.1", 47, 24)),
        ]);
    }
    let short = Frame::raw(A4, "192.0.2.1", 17, &[1, 2, 3]).fragment(0x0001);
    rows.push(unsent("fragment, last, of three bytes", short, Fragment));
    rows.push(passed(
        "the first fragment to a host",
        datagram("192.0.2.200:53", 0x191).in_fragments(40)[0].clone(),
    ));
    rows
}

/// First fragments that do not hold the transport header, and later ones that would write over it.
fn tiny() -> Vec<Row> {
    let first = |protocol, bytes: &[u8]| Frame::raw(A4, "192.0.2.1", protocol, bytes).fragment(0x2000);
    let tcp = &segment("192.0.2.1:80", 0).payload_bytes()[..];
    let optional = Frame::tcp(C4, "192.0.2.1:80")
        .tcp_options(&[1; 12])
        .payload_bytes();
    let mut rows = vec![
        unsent(
            "a first fragment of 16 bytes of TCP",
            first(6, &tcp[..16]),
            BadFragment,
        ),
        unsent(
            "a first fragment of 8 bytes of TCP",
            first(6, &tcp[..8]),
            BadFragment,
        ),
        unsent(
            "a first fragment without TCP's options",
            first(6, &optional[..24]),
            BadFragment,
        ),
        unsent("a first fragment of no bytes", first(17, &[]), BadFragment),
        unsent("a first fragment of no bytes, TCP", first(6, &[]), BadFragment),
        unsent(
            "a first fragment of a length that is no multiple of 8",
            first(17, &[0, 9, 0, 53, 0, 99, 0, 0, 1, 2, 3]),
            BadFragment,
        ),
        unsent(
            "a later fragment that holds TCP's flags",
            Frame::raw(A4, "192.0.2.1", 6, &[2; 24]).fragment(0x2001),
            BadFragment,
        ),
        unsent(
            "the last fragment, that holds TCP's flags",
            Frame::raw(A4, "192.0.2.1", 6, &[2; 5]).fragment(0x0001),
            BadFragment,
        ),
        passed(
            "a tiny first fragment to a host",
            Frame::raw(A4, "192.0.2.200", 6, &tcp[..8]).fragment(0x2000),
        ),
    ];
    let first6 = |next: u8, bytes: &[u8]| Frame::raw(A6, VIP6, next, bytes).label(0x1a0).fragment6(0, true);
    let rest = [6, 0, 1, 4, 0, 0, 0, 0];
    rows.extend([
        unsent(
            "IPv6, a first fragment of 16 bytes of TCP",
            first6(6, &tcp[..16]),
            BadFragment,
        ),
        unsent("IPv6, a first fragment of no bytes", first6(6, &[]), BadFragment),
        unsent(
            "IPv6, a first fragment of extension headers only",
            first6(60, &rest),
            BadFragment,
        ),
        unsent(
            "IPv6, a first fragment of half an extension header",
            first6(60, &rest[..4]),
            BadFragment,
        ),
    ]);
    rows
}

fn misplaced() -> Vec<Row> {
    let at = |word: u16, len: usize| {
        Frame::raw(A4, "192.0.2.1", 17, &vec![1; len])
            .label(0x1b0)
            .fragment(word)
    };
    let at6 = |offset: u16, more: bool, len: usize| {
        Frame::raw(A6, VIP6, 17, &vec![1; len])
            .label(0x1b1)
            .fragment6(offset, more)
    };
    vec![
        unsent("a fragment beyond 65,535 bytes", at(0x1fff, 8), BadFragment),
        unsent("a fragment up to 65,535 bytes", at(0x1fff, 7), Fragment),
        unsent(
            "a fragment beyond 65,535 bytes, IPv6",
            at6(65_528, false, 8),
            BadFragment,
        ),
        unsent("a middle fragment of 9 bytes", at(0x2010, 9), BadFragment),
        unsent(
            "a middle fragment of 9 bytes, IPv6",
            at6(64, true, 9),
            BadFragment,
        ),
        unsent("a last fragment of 9 bytes, IPv6", at6(64, false, 9), Fragment),
        unsent("a middle fragment of no bytes", at(0x2010, 0), BadFragment),
        unsent("a last fragment of no bytes", at(0x0010, 0), BadFragment),
    ]
}

/// RFC 6946: a fragment header that says that nothing follows and nothing is before it.
fn atomic() -> Vec<Row> {
    let tcp = |id| segment("[2001:db8::1]:80", id).fragment6(0, false);
    let behind = segment("[2001:db8::1]:80", 0x1c3)
        .fragment6(0, false)
        .extension(60, &[0, 1, 4, 0, 0, 0, 0]);
    vec![
        to_backend("an atomic fragment", &tcp(0x1c0)),
        to_backend("an atomic fragment again", &tcp(0x1c0)),
        to_backend("an atomic fragment behind a tag", &tcp(0x1c1).tag(0x8100, 4)),
        to_backend("an atomic fragment with options behind it", &behind),
        tunnelled(
            "an atomic fragment in a tunnel",
            &segment("[2001:db8::3]:80", 0x1c2).fragment6(0, false),
            "2001:db8:b::3",
        ),
    ]
}

fn headers6() -> Vec<Row> {
    let first = datagram("[2001:db8::1]:53", 0x1d0).in_fragments(40)[0].clone();
    let address: IpAddr = "2001:db8::200".parse().unwrap();
    let header = [17, 0, 0, 1, 0, 0, 1];
    let twice = first.clone().fragment6(0, true);
    vec![
        unsent("IPv6 fragment of a fragment", twice, BadFragment),
        unsent(
            "IPv6 fragment header of 7 bytes",
            Frame::raw(A6, VIP6, 44, &header),
            Truncated,
        ),
        passed(
            "IPv6 fragment header of 7 bytes, a host",
            Frame::raw(A6, "2001:db8::200", 44, &header),
        ),
        passed("IPv6 fragment, a host", first.to(address, 0)),
        passed(
            "IPv6 fragment, a VIP without that protocol",
            Frame::raw(A6, "2001:db8::11", 6, &[3; 24]).fragment6(24, true),
        ),
        passed(
            "IPv6 fragment, ICMPv6",
            Frame::raw(A6, VIP6, 58, &[128, 0, 0, 0, 0, 0, 0, 0]).fragment6(0, true),
        ),
        unsent(
            "IPv6 fragment cut in its header",
            Frame::raw(A6, VIP6, 17, &[0; 8]).fragment6(8, true).bytes()[..14 + 39].to_vec(),
            NoService,
        ),
    ]
}
