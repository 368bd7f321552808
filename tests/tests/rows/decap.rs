//! Where tunnels end: packets of every kind, whole and broken, through `lb decap` on the host and in the kernel.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use lb_common::{
    abi::Action,
    decap::{Address, GRE_BIT, IPIP_BIT, Ports, Reason, Rules, decap},
};
use lb_core::desired::Forwarder;
use lb_lab::Namespace;
use lb_packets::{Buffer, Frame, check_sums};
use lb_userspace::backend::decap::{self, Decap};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

const IPIP: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
/// Outer addresses: balancer and backend.
const PAIR4: [&str; 2] = ["172.16.9.9", "10.0.0.11"];
const PAIR6: [&str; 2] = ["100::9", "2001:db8:1::11"];
/// Sources that are not allowed.
const STRANGERS: [&str; 2] = ["172.17.0.1", "100:0:0:1::9"];

/// What the operator says in all rows: GUE at 6080 and 7080, FOU at 5555.
struct Here;

impl Rules for Here {
    fn protocols(&self) -> u32 {
        IPIP_BIT | GRE_BIT
    }

    fn gue_ports(&self) -> Ports {
        Ports::of(&[6080, 7080]).expect("two ports")
    }

    fn fou_ports(&self) -> Ports {
        Ports::of(&[5555]).expect("one port")
    }

    fn is_ours(&self, destination: &Address) -> bool {
        [PAIR4, PAIR6].iter().any(|pair| *destination == address(pair[1]))
    }

    fn allows(&self, source: &Address) -> bool {
        STRANGERS.iter().all(|stranger| *source != address(stranger))
    }
}

fn address(text: &str) -> Address {
    let address = match text.parse().expect("an address") {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    Address::from(address.octets())
}

fn in_the_kernel() -> Result<Decap> {
    let mut decap = Decap::load(&decap::DecapRules {
        tunnels: vec![Forwarder::Ipip, Forwarder::Gue, Forwarder::Fou, Forwarder::Gre],
        gue_ports: vec![6080, 7080],
        fou_ports: vec![5555],
        from: vec!["172.16.0.0/16".parse()?, "100::/64".parse()?],
    })?;
    let ends: Result<BTreeSet<IpAddr>, _> = [PAIR4, PAIR6].iter().map(|pair| pair[1].parse()).collect();
    decap.set_ends(ends?)?;
    Ok(decap)
}

/// A packet, and what becomes of it.
struct Row {
    name: String,
    input: Vec<u8>,
    reason: Reason,
    output: Vec<u8>,
}

fn row(
    name: impl Into<String>,
    input: impl Into<Vec<u8>>,
    reason: Reason,
    output: impl Into<Vec<u8>>,
) -> Row {
    Row {
        name: name.into(),
        input: input.into(),
        reason,
        output: output.into(),
    }
}

/// A packet that is left as it is.
fn same(name: &str, input: impl Into<Vec<u8>>, reason: Reason) -> Row {
    let input = input.into();
    row(name, input.clone(), reason, input)
}

fn client4() -> Frame {
    Frame::tcp("198.51.100.7:40000", "192.0.2.80:80")
}

fn client6() -> Frame {
    Frame::udp("[2001:db8:9::7]:40000", "[2001:db8::80]:80")
}

fn protocol_of(inner: &Frame) -> u8 {
    if inner.source.is_ipv4() { IPIP } else { IPV6 }
}

fn ether_type_of(inner: &Frame) -> u16 {
    if inner.source.is_ipv4() { 0x0800 } else { 0x86dd }
}

fn outer([from, to]: [&str; 2], protocol: u8, content: &[u8]) -> Frame {
    Frame::raw(from, to, protocol, content)
}

fn ipip(pair: [&str; 2], inner: &Frame) -> Frame {
    outer(pair, protocol_of(inner), &inner.ip_bytes())
}

fn udp([from, to]: [&str; 2], port: u16, content: &[u8]) -> Frame {
    let socket = |address: &str, port: u16| match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    Frame::udp(&socket(from, 50_000), &socket(to, port))
        .data(content)
        .unsummed()
}

fn fou(pair: [&str; 2], inner: &Frame) -> Frame {
    udp(pair, 5555, &inner.ip_bytes())
}

/// Version 0 with that first byte (its lowest five bits count words of options) and flags.
fn gue(pair: [&str; 2], first: u8, flags: u16, inner: &Frame) -> Frame {
    let options = vec![0xee; usize::from(first & 0x1f) * 4];
    let header = [[first, protocol_of(inner)], flags.to_be_bytes()].concat();
    udp(pair, 6080, &[header, options, inner.ip_bytes()].concat())
}

/// With those flags and version, and as many optional words as they announce.
fn gre(pair: [&str; 2], flags: u16, inner: &Frame) -> Frame {
    gre_of(pair, flags, ether_type_of(inner), inner)
}

fn gre_of(pair: [&str; 2], flags: u16, ether_type: u16, inner: &Frame) -> Frame {
    let words = (flags & 0xb000).count_ones() as usize;
    let header = [flags.to_be_bytes(), ether_type.to_be_bytes()].concat();
    outer(
        pair,
        GRE,
        &[header, vec![0xdd; words * 4], inner.ip_bytes()].concat(),
    )
}

/// A frame with VLAN tags between MACs and EtherType.
fn tagged(frame: &Frame, tags: &[u8]) -> Vec<u8> {
    let bytes = frame.bytes();
    [&bytes[..12], tags, &bytes[12..]].concat()
}

/// A frame with other bytes from `at` on.
fn patched(frame: &Frame, at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = frame.bytes();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// A frame with the checksum of its outer IPv4 header made anew.
fn resummed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[24..26].fill(0);
    let header = bytes[14..]
        .get(..usize::from(bytes[14] & 15) * 4)
        .expect("a header");
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair[1]);
    let mut sum: u32 = header.chunks(2).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes
}

fn all() -> Vec<Row> {
    [tunnels(), layers(), congestion(), left_alone(), broken()]
        .into_iter()
        .flatten()
        .collect()
}

/// Every kind of tunnel, around and over both families.
fn tunnels() -> Vec<Row> {
    let mut rows = Vec::new();
    for pair in [PAIR4, PAIR6] {
        for inner in [client4(), client6()] {
            let over = if pair == PAIR4 { "IPv4" } else { "IPv6" };
            let name = |kind: &str| {
                format!(
                    "{kind}, {} over {over}",
                    if inner.source.is_ipv4() { "IPv4" } else { "IPv6" }
                )
            };
            let mut add = |kind: &str, frame: Frame, reason: Reason| {
                rows.push(row(name(kind), frame, reason, inner.clone()));
            };
            add("ipip", ipip(pair, &inner), Reason::Ipip);
            add("fou", fou(pair, &inner), Reason::Fou);
            add("gue", gue(pair, 0, 0, &inner), Reason::Gue);
            add(
                "gue at another port",
                udp(pair, 7080, &inner.ip_bytes()),
                Reason::Gue,
            );
            add(
                "gue of version 1",
                udp(pair, 6080, &inner.ip_bytes()),
                Reason::Gue,
            );
            add("gue with a word of options", gue(pair, 1, 0, &inner), Reason::Gue);
            add(
                "gue with all the options there can be",
                gue(pair, 31, 0, &inner),
                Reason::Gue,
            );
            add("gre", gre(pair, 0, &inner), Reason::Gre);
            add("gre with checksum", gre(pair, 0x8000, &inner), Reason::Gre);
            add("gre with key", gre(pair, 0x2000, &inner), Reason::Gre);
            add("gre with sequence number", gre(pair, 0x1000, &inner), Reason::Gre);
            add("gre with everything", gre(pair, 0xb000, &inner), Reason::Gre);
        }
    }
    rows
}

/// What stands around the tunnel.
fn layers() -> Vec<Row> {
    let (inner, q, ad) = (client4(), [0x81, 0, 0, 100], [0x88, 0xa8, 0, 200]);
    let both = [ad, q].concat();
    let options = [0x94, 4, 0, 0, 1, 1, 1, 0];
    let long = [1; 40];
    let summed = |pair: [&str; 2]| {
        let mut frame = fou(pair, &inner);
        if let lb_packets::Body::Udp { summed, .. } = &mut frame.body {
            *summed = true;
        }
        frame
    };
    let extended = |next: u8, words: u8| {
        let header = [vec![next, words], vec![1; 6 + usize::from(words) * 8]].concat();
        [header, inner.ip_bytes()].concat()
    };
    let twice = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &extended(IPIP, 0)].concat();
    vec![
        row(
            "one VLAN tag stays",
            tagged(&ipip(PAIR4, &inner), &q),
            Reason::Ipip,
            tagged(&inner, &q),
        ),
        row(
            "two VLAN tags stay",
            tagged(&gre(PAIR6, 0, &inner), &both),
            Reason::Gre,
            tagged(&inner, &both),
        ),
        row(
            "a VLAN tag stays when the family changes",
            tagged(&fou(PAIR4, &client6()), &q),
            Reason::Fou,
            tagged(&client6(), &q),
        ),
        row(
            "outer options",
            ipip(PAIR4, &inner).ip_options(&options),
            Reason::Ipip,
            inner.clone(),
        ),
        row(
            "as many outer options as there can be",
            gue(PAIR4, 0, 0, &inner).ip_options(&long),
            Reason::Gue,
            inner.clone(),
        ),
        row(
            "inner options",
            ipip(PAIR4, &inner.clone().ip_options(&options)),
            Reason::Ipip,
            inner.clone().ip_options(&options),
        ),
        row(
            "padding stays",
            ipip(PAIR4, &inner).padding(&[0; 6]),
            Reason::Ipip,
            inner.clone().padding(&[0; 6]),
        ),
        row(
            "an inner TTL of 1",
            ipip(PAIR4, &inner.clone().ttl(1)),
            Reason::Ipip,
            inner.clone().ttl(1),
        ),
        row(
            "a UDP checksum over IPv4",
            summed(PAIR4),
            Reason::Fou,
            inner.clone(),
        ),
        row(
            "a UDP checksum over IPv6",
            summed(PAIR6),
            Reason::Fou,
            inner.clone(),
        ),
        row(
            "a tunnel encapsulation limit",
            outer(PAIR6, 60, &extended(IPIP, 0)),
            Reason::Ipip,
            inner.clone(),
        ),
        row(
            "longer destination options",
            outer(PAIR6, 60, &extended(IPIP, 3)),
            Reason::Ipip,
            inner.clone(),
        ),
        row(
            "hop-by-hop and destination options",
            outer(PAIR6, 0, &twice),
            Reason::Ipip,
            inner,
        ),
    ]
}

/// RFC 6040 §4.2 in both families: not ECN capable 0, ECT(1) 1, ECT(0) 2, CE 3.
fn congestion() -> Vec<Row> {
    let mut rows = Vec::new();
    for (pair, inner) in [
        (PAIR4, client4()),
        (PAIR6, client6()),
        (PAIR4, client6()),
        (PAIR6, client4()),
    ] {
        for (tos, outer_ecn, then) in [
            (0xb8, 0, 0xb8),
            (0xb8, 1, 0xb8),
            (0xb8, 2, 0xb8),
            (0xb9, 2, 0xb9),
            (0xb9, 3, 0xbb),
            (0xba, 0, 0xba),
            (0xba, 1, 0xb9),
            (0xba, 3, 0xbb),
            (0xbb, 0, 0xbb),
            (0xbb, 3, 0xbb),
        ] {
            let name = format!(
                "{} in {}: inner {tos:#x}, outer ECN {outer_ecn}",
                inner.source, pair[0]
            );
            let (before, after) = (inner.clone().tos(tos), inner.clone().tos(then));
            rows.push(row(name, ipip(pair, &before).tos(outer_ecn), Reason::Ipip, after));
        }
        let name = format!("{} in {}: congestion that cannot be told", inner.source, pair[0]);
        rows.push(same(&name, ipip(pair, &inner).tos(3), Reason::Congestion));
    }
    rows
}

/// What is the host's business.
fn left_alone() -> Vec<Row> {
    let inner = client4();
    let elsewhere = [PAIR4[0], "10.0.0.12"];
    let lone_dest = outer(PAIR6, 60, &[59, 0, 1, 4, 0, 0, 0, 0]);
    let fragment6 = [&[IPIP, 0, 0, 1, 0, 0, 0, 9][..], &inner.ip_bytes()].concat();
    vec![
        same("a client's packet", inner.clone(), Reason::NotTunnel),
        same(
            "UDP to another port",
            udp(PAIR4, 5556, &inner.ip_bytes()),
            Reason::NotTunnel,
        ),
        same("ARP", patched(&inner, 12, &[0x08, 0x06]), Reason::NotTunnel),
        same(
            "three VLAN tags",
            tagged(&ipip(PAIR4, &inner), &[0x81, 0, 0, 1].repeat(3)),
            Reason::NotTunnel,
        ),
        same("IPv6 without a next header", lone_dest, Reason::NotTunnel),
        same("another host's tunnel", ipip(elsewhere, &inner), Reason::NotOurs),
        same(
            "another host's broken tunnel",
            patched(&ipip(elsewhere, &inner), 16, &[0xff, 0xff]),
            Reason::NotOurs,
        ),
        same(
            "the first fragment of a tunnel's packet",
            ipip(PAIR4, &inner).fragment(0x2000),
            Reason::Fragment,
        ),
        same(
            "a later fragment of a tunnel's packet",
            ipip(PAIR4, &inner).fragment(0x0010),
            Reason::Fragment,
        ),
        same(
            "the first fragment of a UDP tunnel's packet",
            fou(PAIR4, &inner).fragment(0x2000),
            Reason::Fragment,
        ),
        same(
            "a later fragment of UDP",
            fou(PAIR4, &inner).fragment(0x0010),
            Reason::NotTunnel,
        ),
        same(
            "a fragment over IPv6",
            outer(PAIR6, 44, &fragment6),
            Reason::Fragment,
        ),
        same("gue with a flag", gue(PAIR4, 0, 1, &inner), Reason::Unsupported),
        same(
            "a control message of gue",
            gue(PAIR4, 0x20, 0, &inner),
            Reason::Unsupported,
        ),
        same(
            "gue of version 2",
            gue(PAIR4, 0x80, 0, &inner),
            Reason::Unsupported,
        ),
        same(
            "gue with TCP inside",
            patched(&gue(PAIR4, 0, 0, &inner), 43, &[6]),
            Reason::Unsupported,
        ),
        same(
            "gre with Ethernet inside",
            gre_of(PAIR4, 0, 0x6558, &inner),
            Reason::Unsupported,
        ),
        same(
            "gre with routing",
            gre(PAIR4, 0x4000, &inner),
            Reason::Unsupported,
        ),
        same(
            "gre of version 1",
            gre(PAIR4, 0x0001, &inner),
            Reason::Unsupported,
        ),
    ]
}

/// What contradicts itself.
fn broken() -> Vec<Row> {
    let inner = client4();
    let inner6 = client6();
    let whole = ipip(PAIR4, &inner).bytes();
    let udp_len = |len: u16| resummed(patched(&fou(PAIR4, &inner), 38, &len.to_be_bytes()));
    let short = |len: u16| resummed(patched(&ipip(PAIR4, &inner), 16, &len.to_be_bytes()));
    vec![
        same(
            "a source that is not allowed",
            ipip([STRANGERS[0], PAIR4[1]], &inner),
            Reason::Denied,
        ),
        same(
            "an IPv6 source that is not allowed",
            ipip([STRANGERS[1], PAIR6[1]], &inner),
            Reason::Denied,
        ),
        same(
            "the frame ends early",
            &whole[..whole.len() - 1],
            Reason::Truncated,
        ),
        same(
            "the frame ends in the outer header",
            &whole[..33],
            Reason::NotTunnel,
        ),
        same(
            "the outer version is wrong",
            patched(&ipip(PAIR4, &inner), 14, &[0x55]),
            Reason::NotTunnel,
        ),
        same(
            "the outer header is too short",
            patched(&ipip(PAIR4, &inner), 14, &[0x44]),
            Reason::NotTunnel,
        ),
        same(
            "the outer checksum is wrong",
            patched(&ipip(PAIR4, &inner), 24, &[0, 0]),
            Reason::BadHeader,
        ),
        same(
            "the outer length is below its header",
            short(19),
            Reason::BadHeader,
        ),
        same(
            "the outer length cuts the inner packet",
            short(40),
            Reason::BadInner,
        ),
        same(
            "nothing inside",
            outer(PAIR4, IPIP, &[]).padding(&[0; 26]),
            Reason::BadInner,
        ),
        same("a UDP length below its header", udp_len(7), Reason::BadHeader),
        same("a UDP length beyond the packet", udp_len(1000), Reason::BadHeader),
        same(
            "a UDP length that cuts the inner packet",
            udp_len(30),
            Reason::BadInner,
        ),
        same(
            "fou with neither version inside",
            udp(PAIR4, 5555, &[0x50; 40]),
            Reason::BadInner,
        ),
        same(
            "gue with options beyond the packet",
            patched(&gue(PAIR4, 0, 0, &inner), 42, &[31]),
            Reason::BadInner,
        ),
        same(
            "IPv6 where IPv4 is announced",
            outer(PAIR4, IPIP, &inner6.ip_bytes()),
            Reason::BadInner,
        ),
        same(
            "IPv4 where IPv6 is announced",
            gre_of(PAIR4, 0, 0x86dd, &inner),
            Reason::BadInner,
        ),
        same(
            "an inner header that is too short",
            patched(&ipip(PAIR4, &inner), 34, &[0x44]),
            Reason::BadInner,
        ),
        same(
            "an inner length below its header",
            patched(&ipip(PAIR4, &inner), 36, &[0, 19]),
            Reason::BadInner,
        ),
        same(
            "an inner length beyond the packet",
            patched(&ipip(PAIR4, &inner), 36, &[0, 200]),
            Reason::BadInner,
        ),
        same(
            "an inner IPv6 length beyond the packet",
            patched(&ipip(PAIR6, &inner6), 58, &[1, 0]),
            Reason::BadInner,
        ),
        same(
            "gre that ends in its header",
            outer(PAIR4, GRE, &[0, 0, 8]),
            Reason::Truncated,
        ),
        same(
            "gue that ends in its header",
            udp(PAIR6, 6080, &[0, 4]),
            Reason::Truncated,
        ),
        same(
            "UDP that ends in its header",
            outer(PAIR4, 17, &[0, 1, 0x15, 0xb3, 0, 8]),
            Reason::Truncated,
        ),
    ]
}

fn check(row: &Row, reason: Reason, frame: &[u8]) -> Result<()> {
    ensure!(
        reason == row.reason,
        "left for {reason:?}, not for {:?}",
        row.reason
    );
    ensure!(
        frame == row.output,
        "the frame is\n{frame:02x?}, not\n{:02x?}",
        row.output
    );
    if reason.is_decapsulated() {
        check_sums(frame).context("what came out has a wrong checksum")?;
    }
    Ok(())
}

fn on_the_host(row: &Row) -> Result<()> {
    let mut buffer = Buffer::new(&row.input);
    let reason = decap(&mut buffer, &Here);
    check(row, reason, buffer.frame())
}

/// Also checks that the packet moves exactly one counter.
fn by_the_kernel(row: &Row, decap: &Decap) -> Result<()> {
    let before = decap.counts()?;
    let mut output = vec![0; row.input.len()];
    let ran = decap.program()?.test_run(TestRunOptions {
        data_in: Some(&row.input),
        data_out: Some(&mut output),
        ..TestRunOptions::new()
    })?;
    output.truncate(ran.data_size_out as usize);
    let moved: Vec<u64> = decap
        .counts()?
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    let expected: Vec<u64> = Reason::ALL
        .iter()
        .map(|reason| u64::from(*reason == row.reason))
        .collect();
    ensure!(moved == expected, "the counters moved by {moved:?}");
    let action = if row.reason.action() == Action::Drop {
        XDP_DROP
    } else {
        XDP_PASS
    };
    ensure!(
        ran.return_value == action,
        "the action is {}, not {action}",
        ran.return_value
    );
    check(row, row.reason, &output)
}

fn wrong(mut check: impl FnMut(&Row) -> Result<()>) -> Vec<String> {
    let complain = |row: Row| check(&row).err().map(|error| format!("{}: {error:#}", row.name));
    all().into_iter().filter_map(complain).collect()
}

#[test]
fn tunnels_end_as_the_rows_say_on_the_host() {
    super::report(&wrong(on_the_host));
}

#[test]
fn tunnels_end_as_the_rows_say_in_the_kernel() {
    let namespace = Namespace::new("decap").unwrap();
    let check_all = || in_the_kernel().map(|decap| wrong(|row| by_the_kernel(row, &decap)));
    super::report(&namespace.run(check_all).unwrap().unwrap());
}

#[test]
fn every_reason_has_a_row() {
    for reason in Reason::ALL {
        assert!(
            all().iter().any(|row| row.reason == *reason),
            "{reason:?} has none"
        );
    }
}
