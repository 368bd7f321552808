//! Answers of the balancer's own making: what fits, whose last hop this was, and that nobody is there.

use lb_common::abi::{
    Reason,
    Reason::{NoBackend, OtherHost, Rejected, TooBig, TtlExpired},
};
use lb_packets::{Body, Frame};

use super::{
    options::{REJECTING, REJECTING_ALL, SILENT, vip4, vip6},
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, expired, told, too_big, unsent},
    service_set::{SMALL, ServiceSet},
};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// What frames' TCP headers say.
const SEQUENCE: u32 = 0x0102_0304;
const ACKNOWLEDGED: u32 = 0x0506_0708;

pub(crate) fn rows() -> Vec<Row> {
    let optional = [silent(), reset(), unreachable(), not_refused()].concat();
    let optional = optional.into_iter().map(|row| row.within(ServiceSet::Options));
    let plain = [lengths(), not_told(), headers()].concat();
    optional.chain(plain).collect()
}

/// How much is quoted: everything that a packet of any way carries, and no more.
fn lengths() -> Vec<Row> {
    let udp4 = |len| Frame::udp(C4, "192.0.2.13:53").ip_len(len);
    let udp6 = |len| Frame::udp(C6, "[2001:db8::d]:53").ip_len(len);
    let mut rows = Vec::new();
    for len in [SMALL + 1, SMALL + 2, 777, 1000, 1499, 1500, 2999] {
        rows.push(too_big(
            format!("too big, {len} bytes over IPv4"),
            &udp4(len),
            SMALL,
        ));
        rows.push(too_big(
            format!("too big, {len} bytes over IPv6"),
            &udp6(len),
            SMALL,
        ));
    }
    for len in [28, 29, 30, 31, 33, 63, 64, 65, 547, 548, 549, 550] {
        rows.push(expired(
            format!("TTL 1, {len} bytes"),
            &Frame::udp(C4, "192.0.2.1:53").ip_len(len).ttl(1),
        ));
    }
    for len in [48, 49, 51, 95, 96, 97, 1231, 1232, 1233, 1234] {
        rows.push(expired(
            format!("hop limit 1, {len} bytes"),
            &Frame::udp(C6, "[2001:db8::1]:53").ip_len(len).ttl(1),
        ));
    }
    rows
}

/// What stands in front of the quoted packet is made anew, whatever the packet's own headers say.
fn headers() -> Vec<Row> {
    let udp4 = || Frame::udp(C4, "192.0.2.13:53").ip_len(900);
    let tcp4 = || Frame::tcp(C4, "192.0.2.1:80").ttl(1);
    let tcp6 = || Frame::tcp(C6, "[2001:db8::1]:80").ttl(1);
    vec![
        too_big("too big, to be fragmented on the way", &udp4().fragment(0), SMALL),
        too_big("too big, type of service", &udp4().tos(0xff), SMALL),
        too_big("too big, identification", &udp4().label(0xffff), SMALL),
        too_big("too big, padding", &udp4().padding(&[7; 9]), SMALL),
        too_big("too big, TTL 2", &udp4().ttl(2), SMALL),
        expired("TTL 1, IPv4 options", &tcp4().ip_options(&[1; 40])),
        expired("TTL 1, TCP options", &tcp4().tcp_options(&[1; 40])),
        expired("TTL 1, padding", &tcp4().padding(&[7; 9])),
        expired("hop limit 1, flow label", &tcp6().label(0xf_ffff)),
        expired("hop limit 1, padding", &tcp6().padding(&[7; 9])),
        expired("TTL 1, SYN", &tcp4().flags(SYN)),
        expired("TTL 1, before nat", &Frame::tcp(C4, "192.0.2.4:80").ttl(1)),
        expired(
            "TTL 0, UDP without checksum",
            &Frame::udp(C4, "192.0.2.1:53").unsummed().ttl(0),
        ),
    ]
}

/// RFC 1122 §3.2.2, RFC 4443 §2.4 (e): who is not told.
fn not_told() -> Vec<Row> {
    let big4 = || Frame::udp(C4, "192.0.2.13:53").ip_len(900);
    let big6 = || Frame::udp(C6, "[2001:db8::d]:53").ip_len(900);
    let from = |frame: Frame, address: &str| frame.from(address.parse().unwrap(), 0);
    let mut rows = Vec::new();
    for source in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        rows.push(unsent(
            format!("too big, from {source}"),
            from(big4(), source),
            TooBig,
        ));
    }
    for source in ["::", "::1", "ff02::1", "ff0e::5"] {
        rows.push(unsent(
            format!("too big, from {source}"),
            from(big6(), source),
            TooBig,
        ));
    }
    let broadcast = [0xff; 6];
    let multicast = [0x01, 0, 0x5e, 0, 0, 1];
    let router = big4().macs[1];
    let expired = |frame: Frame| frame.ip_len(60).ttl(1);
    rows.extend([
        unsent(
            "too big, to all hosts of the link",
            big4().macs(broadcast, router),
            OtherHost,
        ),
        unsent(
            "too big, to a group of the link",
            big6().macs(multicast, router),
            OtherHost,
        ),
        unsent(
            "TTL 1, to all hosts of the link",
            expired(big4()).macs(broadcast, router),
            OtherHost,
        ),
        unsent("TTL 1, from nobody", from(expired(big4()), "0.0.0.0"), TtlExpired),
        too_big(
            "too big, from the last host address",
            &from(big4(), "223.255.255.254"),
            SMALL,
        ),
        too_big("too big, from a local address", &from(big6(), "fe80::5"), SMALL),
    ]);
    rows
}

fn silent() -> Vec<Row> {
    vec![
        unsent(
            "TTL 1, not told",
            Frame::tcp(C4, &vip4(SILENT, 80)).ttl(1),
            TtlExpired,
        ),
        unsent(
            "hop limit 1, not told",
            Frame::tcp(C6, &vip6(SILENT, 80)).ttl(1),
            TtlExpired,
        ),
        unsent(
            "back, TTL 1, not told",
            Frame::tcp("10.0.0.5:80", C4).ttl(1),
            TtlExpired,
        ),
        unsent(
            "back, hop limit 1, not told",
            Frame::tcp("[2001:db8:b::5]:80", C6).ttl(1),
            TtlExpired,
        ),
    ]
}

/// A segment that is answered by a reset (RFC 9293 §3.10.7.1).
fn resets(name: &str, frame: &Frame) -> Row {
    resets_for(name, frame, Rejected)
}

/// A segment that is answered by a reset for that reason.
pub(crate) fn resets_for(name: &str, frame: &Frame, reason: Reason) -> Row {
    let Body::Tcp { flags, data, .. } = &frame.body else {
        panic!("{name} is no TCP");
    };
    let (sequence, acknowledged, answer) = if flags & ACK != 0 {
        (ACKNOWLEDGED, 0, RST)
    } else {
        let counted = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (0, SEQUENCE + data.len() as u32 + counted, RST | ACK)
    };
    let socket = |address: std::net::IpAddr, port: u16| std::net::SocketAddr::new(address, port).to_string();
    let [from, to] = frame.ports();
    let mut reset = Frame::tcp(&socket(frame.destination, to), &socket(frame.source, from))
        .flags(answer)
        .data(&[])
        .numbers(sequence, acknowledged)
        .window(0)
        .tos(0xc0)
        .label(0)
        .macs(frame.macs[1], frame.macs[0]);
    reset.tags.clone_from(&frame.tags);
    Row {
        output: reset.bytes(),
        ..unsent(name, frame.clone(), reason)
    }
}

fn reset() -> Vec<Row> {
    let tcp4 = |flags| Frame::tcp(C4, &vip4(REJECTING, 80)).flags(flags);
    let tcp6 = |flags| Frame::tcp(C6, &vip6(REJECTING, 80)).flags(flags);
    let mut rows = Vec::new();
    for (name, flags) in [
        ("SYN", SYN),
        ("ACK", ACK),
        ("SYN and ACK", SYN | ACK),
        ("FIN", FIN),
        ("FIN and ACK", FIN | ACK),
        ("SYN and FIN", SYN | FIN),
        ("no flags", 0),
        ("all but RST", 0xfb),
    ] {
        rows.extend([
            resets(&format!("rejected, {name} over IPv4"), &tcp4(flags)),
            resets(&format!("rejected, {name} over IPv6"), &tcp6(flags)),
            resets(&format!("rejected, {name} without data"), &tcp4(flags).data(&[])),
        ]);
    }
    let options = [2, 4, 5, 0xb4, 1, 1, 1, 0];
    rows.extend([
        resets(
            "rejected, TCP options",
            &tcp4(SYN).tcp_options(&options).data(&[]),
        ),
        resets("rejected, IPv4 options", &tcp4(SYN).ip_options(&[1; 40])),
        resets(
            "rejected, extension headers",
            &tcp6(SYN).extension(0, &[0, 1, 4, 0, 0, 0, 0]),
        ),
        resets("rejected behind a tag", &tcp4(SYN).tag(0x8100, 3)),
        resets(
            "rejected behind two tags",
            &tcp6(SYN).tag(0x88a8, 3).tag(0x8100, 4),
        ),
        resets("rejected, 1,500 bytes", &tcp4(ACK).ip_len(1500)),
        resets("rejected, padding", &tcp4(SYN).data(&[]).padding(&[5; 6])),
        resets("rejected, type of service", &tcp6(SYN).tos(0xff).label(0xabcde)),
        resets("rejected, TTL 2", &tcp4(SYN).ttl(2)),
        resets(
            "rejected, any port",
            &Frame::tcp(C4, &vip4(REJECTING_ALL, 9)).flags(SYN),
        ),
    ]);
    rows
}

fn unreachable() -> Vec<Row> {
    let rejected = |name: &str, frame: &Frame| {
        let kind = if frame.source.is_ipv4() { [3, 3] } else { [1, 4] };
        told(name, frame, kind, 0, Rejected)
    };
    let udp4 = || Frame::udp(C4, &vip4(REJECTING, 53));
    let udp6 = || Frame::udp(C6, &vip6(REJECTING, 53));
    let first = udp4().data(&[1; 90]).label(0x210).fragment(0).in_fragments(48)[0].clone();
    vec![
        rejected("rejected, UDP over IPv4", &udp4()),
        rejected("rejected, UDP over IPv6", &udp6()),
        rejected("rejected, UDP behind a tag", &udp4().tag(0x8100, 3)),
        rejected(
            "rejected, UDP behind two tags",
            &udp6().tag(0x88a8, 3).tag(0x8100, 4),
        ),
        rejected("rejected, UDP of 1,500 bytes", &udp4().ip_len(1500)),
        rejected("rejected, UDP of 1,500 bytes over IPv6", &udp6().ip_len(1500)),
        rejected("rejected, UDP with IPv4 options", &udp4().ip_options(&[1; 12])),
        rejected("rejected, the first fragment", &first),
        rejected("rejected, SCTP", &Frame::sctp(C4, &vip4(REJECTING, 3868), 1)),
        rejected(
            "rejected, SCTP over IPv6",
            &Frame::sctp(C6, &vip6(REJECTING, 3868), 1),
        ),
    ]
}

fn not_refused() -> Vec<Row> {
    let tcp4 = |flags| Frame::tcp(C4, &vip4(REJECTING, 80)).flags(flags);
    let first = tcp4(ACK).data(&[1; 90]).label(0x220).fragment(0).in_fragments(48)[0].clone();
    let from = |frame: Frame, address: &str| frame.from(address.parse().unwrap(), 0);
    vec![
        unsent("no reset answers a reset", tcp4(RST), NoBackend),
        unsent("no reset answers a reset with ACK", tcp4(RST | ACK), NoBackend),
        unsent("no reset answers a fragment", first, NoBackend),
        unsent("no reset to a group", from(tcp4(SYN), "224.0.0.9"), NoBackend),
        unsent(
            "no answer to nobody",
            from(Frame::udp(C6, &vip6(REJECTING, 53)), "::"),
            NoBackend,
        ),
    ]
}
