//! The MSS of SYNs: lowered to what the service says, never raised, wherever the option stands.

use lb_packets::Frame;

use super::{
    options::{CLAMPED, CLAMPED_TO_FIT, MSS, NAT_CLAMPED, PLAIN, vip4, vip6},
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, l2dsr, nat, returned, tunnelled},
    service_set::{SMALL, ServiceSet},
};

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const BACKEND: &str = "10.0.0.1";

pub(crate) fn rows() -> Vec<Row> {
    let rows = [values(), places(), left(), to_fit(), both_ways()].concat();
    rows.into_iter()
        .map(|row| row.within(ServiceSet::Options))
        .collect()
}

fn syn4(options: &[u8]) -> Frame {
    Frame::tcp(C4, &vip4(CLAMPED, 80))
        .flags(SYN)
        .data(&[])
        .tcp_options(options)
}

fn syn6(options: &[u8]) -> Frame {
    Frame::tcp(C6, &vip6(CLAMPED, 80))
        .flags(SYN)
        .data(&[])
        .tcp_options(options)
}

/// The MSS option (RFC 9293 §3.1).
fn mss(value: u16) -> [u8; 4] {
    let [high, low] = value.to_be_bytes();
    [2, 4, high, low]
}

/// The row of `before`, whose packet leaves as `after` would.
fn clamped(name: impl Into<String>, before: &Frame, after: &Frame) -> Row {
    Row {
        output: l2dsr("", after, BACKEND).output,
        ..l2dsr(&name.into(), before, BACKEND)
    }
}

fn values() -> Vec<Row> {
    let mut rows = Vec::new();
    for value in [0, 1, 536, MSS - 1, MSS, MSS + 1, 1220, 1440, 1460, 8960, 65_535] {
        let after = mss(value.min(MSS));
        rows.extend([
            clamped(format!("MSS {value}, IPv4"), &syn4(&mss(value)), &syn4(&after)),
            clamped(format!("MSS {value}, IPv6"), &syn6(&mss(value)), &syn6(&after)),
        ]);
    }
    rows
}

/// Other options before and after it; odd places too.
fn places() -> Vec<Row> {
    const NOTHING: u8 = 1;
    const TIMESTAMPS: [u8; 10] = [8, 10, 0, 0, 0, 1, 0, 0, 0, 0];
    let row = |name: &str, before: &[u8], after: &[u8]| {
        let all = |value: u16| {
            let mut options = [before, &mss(value)[..], after].concat();
            options.resize(options.len().next_multiple_of(4), 0);
            syn4(&options)
        };
        clamped(name, &all(1460), &all(MSS))
    };
    vec![
        row("MSS first of many", &[], &[1, 3, 3, 7, 4, 2, 1, 1]),
        row("MSS behind one byte", &[NOTHING], &[NOTHING; 3]),
        row("MSS behind two bytes", &[4, 2], &[NOTHING; 2]),
        row("MSS behind three bytes", &[3, 3, 7], &[NOTHING]),
        row("MSS behind timestamps", &TIMESTAMPS, &[4, 2]),
        row(
            "MSS behind timestamps and one byte",
            &[&[NOTHING], &TIMESTAMPS[..]].concat(),
            &[],
        ),
        row("MSS last of 40 bytes", &[NOTHING; 36], &[]),
        row("MSS behind 35 bytes", &[NOTHING; 35], &[NOTHING]),
        row("MSS behind an unknown option", &[253, 6, 1, 2, 3, 4], &[]),
        clamped(
            "MSS of a SYN with ACK",
            &syn4(&mss(1460)).flags(SYN_ACK),
            &syn4(&mss(MSS)).flags(SYN_ACK),
        ),
        clamped(
            "MSS of a SYN with data",
            &syn4(&mss(1460)).data(b"early"),
            &syn4(&mss(MSS)).data(b"early"),
        ),
        clamped(
            "MSS behind a tag",
            &syn4(&mss(1460)).tag(0x8100, 8),
            &syn4(&mss(MSS)),
        ),
        clamped(
            "MSS behind IPv4 options",
            &syn4(&mss(1460)).ip_options(&[1; 12]),
            &syn4(&mss(MSS)).ip_options(&[1; 12]),
        ),
        clamped(
            "MSS behind extension headers",
            &syn6(&mss(1460)).extension(0, &[0, 1, 4, 0, 0, 0, 0]),
            &syn6(&mss(MSS)).extension(0, &[0, 1, 4, 0, 0, 0, 0]),
        ),
        clamped(
            "MSS, damaged data stays noticed",
            &syn4(&mss(1460)).data(b"early"),
            &syn4(&mss(MSS)).data(b"early"),
        )
        .damaged(),
    ]
}

/// What is left as it is.
fn left() -> Vec<Row> {
    let same = |name: &str, frame: &Frame| l2dsr(name, frame, BACKEND);
    let plain = Frame::tcp(C4, &vip4(PLAIN, 80))
        .flags(SYN)
        .tcp_options(&mss(1460));
    vec![
        same("no MSS to lower", &syn4(&[])),
        same("other options only", &syn4(&[1, 3, 3, 7, 4, 2, 1, 1])),
        same(
            "MSS behind the end of options",
            &syn4(&[&[0, 0, 0, 0][..], &mss(1460)].concat()),
        ),
        same("MSS of a packet without SYN", &syn4(&mss(1460)).flags(0x10)),
        same("MSS of a RST", &syn4(&mss(1460)).flags(0x04)),
        same("MSS of three bytes", &syn4(&[2, 3, 5, 0xb4])),
        same("MSS of five bytes", &syn4(&[2, 5, 5, 0xb4, 0, 1, 1, 1])),
        same("MSS cut by the header's end", &syn4(&[1, 1, 2, 4])),
        same(
            "an option of no length",
            &syn4(&[&[8, 0, 1, 1][..], &mss(1460)].concat()),
        ),
        same(
            "an option of one byte",
            &syn4(&[&[8, 1, 1, 1][..], &mss(1460)].concat()),
        ),
        same(
            "an option longer than the header",
            &syn4(&[&[8, 40, 1, 1][..], &mss(1460)].concat()),
        ),
        same("MSS of a service that leaves it", &plain),
        same("MSS in a segment's data", &syn4(&[]).data(&mss(1460))),
    ]
}

/// From the way's MTU, less the tunnel's header and those of IP and TCP.
fn to_fit() -> Vec<Row> {
    let backend = "10.0.0.97";
    let syn = |to: &str, value: u16| {
        let from = if to.starts_with('[') { C6 } else { C4 };
        Frame::tcp(from, to).flags(SYN).data(&[]).tcp_options(&mss(value))
    };
    let row = |name: &str, to: &str, fits: u16| Row {
        output: tunnelled("", &syn(to, fits), backend).output,
        ..tunnelled(name, &syn(to, 1460), backend)
    };
    let most = SMALL as u16 - 20;
    vec![
        row(
            "MSS that fits a tunnel, IPv4",
            &vip4(CLAMPED_TO_FIT, 80),
            most - 40,
        ),
        // No less than what every host takes.
        row("MSS that fits a tunnel, IPv6", &vip6(CLAMPED_TO_FIT, 80), 536),
    ]
}

/// Through nat both ends' SYNs pass.
fn both_ways() -> Vec<Row> {
    let mut rows = Vec::new();
    for (family, client, vip, backend) in [
        ("IPv4", C4, vip4(NAT_CLAMPED, 80), "10.0.0.5"),
        ("IPv6", C6, vip6(NAT_CLAMPED, 80), "2001:db8:b::5"),
    ] {
        let from = match family {
            "IPv4" => format!("{backend}:80"),
            _ => format!("[{backend}]:80"),
        };
        let syn = |value| {
            Frame::tcp(client, &vip)
                .flags(SYN)
                .data(&[])
                .tcp_options(&mss(value))
        };
        let answer = |value| {
            Frame::tcp(&from, client)
                .flags(SYN_ACK)
                .data(&[])
                .tcp_options(&mss(value))
        };
        let back = |name: &str, frame: &Frame| returned(&format!("{name}, {family}"), frame, &vip, backend);
        rows.extend([
            Row {
                output: nat("", &syn(MSS), backend).output,
                ..nat(&format!("MSS through nat, {family}"), &syn(1460), backend)
            },
            Row {
                output: back("", &answer(MSS)).output,
                ..back("MSS back through nat", &answer(1460))
            },
            Row {
                output: back("", &answer(MSS)).output,
                ..back("MSS back through nat behind a tag", &answer(1460).tag(0x8100, 5))
            },
            back("a small MSS back through nat", &answer(536)),
            back("no MSS back through nat", &answer(0).tcp_options(&[])),
            back("no SYN back through nat", &answer(1460).flags(0x10)),
        ]);
    }
    rows
}
