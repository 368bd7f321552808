//! SCTP: by its ports as UDP is, opened and closed by its chunks; the checksum covers no addresses.

use lb_common::abi::Reason::Truncated;
use lb_packets::Frame;

use super::{
    options::{SCTP, SCTP_NAT, vip4, vip6},
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, expired, l2dsr, nat, passed, returned, unsent},
    service_set::ServiceSet,
};

const INIT: u8 = 1;
const DATA: u8 = 0;
const ABORT: u8 = 6;
const SHUTDOWN_COMPLETE: u8 = 14;
const PORT: u16 = 3868;

pub(crate) fn rows() -> Vec<Row> {
    let rows = [forwarded(), not_forwarded()].concat();
    rows.into_iter()
        .map(|row| row.within(ServiceSet::Options))
        .collect()
}

fn forwarded() -> Vec<Row> {
    let (to4, to6) = (vip4(SCTP, PORT), vip6(SCTP, PORT));
    let (nat4, nat6) = (vip4(SCTP_NAT, PORT), vip6(SCTP_NAT, PORT));
    let mut rows = Vec::new();
    for (name, chunk) in [
        ("INIT", INIT),
        ("DATA", DATA),
        ("ABORT", ABORT),
        ("SHUTDOWN COMPLETE", SHUTDOWN_COMPLETE),
    ] {
        let (v4, v6) = (Frame::sctp(C4, &to4, chunk), Frame::sctp(C6, &to6, chunk));
        rows.extend([
            l2dsr(&format!("SCTP, {name}"), &v4, "10.0.0.1"),
            l2dsr(&format!("SCTP, {name}, IPv6"), &v6, "10.0.0.1"),
            nat(
                &format!("SCTP and nat, {name}"),
                &Frame::sctp(C4, &nat4, chunk),
                "10.0.0.4",
            ),
            nat(
                &format!("SCTP and nat, {name}, IPv6"),
                &Frame::sctp(C6, &nat6, chunk),
                "2001:db8:b::4",
            ),
        ]);
    }
    let any = Frame::sctp(C4, &vip4(SCTP_NAT, 99), INIT);
    let tagged = Frame::sctp(C4, &to4, DATA).tag(0x8100, 5);
    let optional = Frame::sctp(C4, &nat4, DATA).ip_options(&[1; 8]);
    rows.extend([
        l2dsr("SCTP to any port", &any, "10.0.0.1"),
        l2dsr("SCTP behind a tag", &tagged, "10.0.0.1"),
        nat("SCTP and nat, IPv4 options", &optional, "10.0.0.4"),
        returned(
            "SCTP back from nat",
            &Frame::sctp(&format!("10.0.0.4:{PORT}"), C4, DATA),
            &nat4,
            "10.0.0.4",
        ),
        returned(
            "SCTP back from nat, IPv6",
            &Frame::sctp(&format!("[2001:db8:b::4]:{PORT}"), C6, DATA),
            &nat6,
            "2001:db8:b::4",
        ),
        expired("SCTP, TTL 1", &Frame::sctp(C4, &to4, INIT).ttl(1)),
    ]);
    rows
}

fn not_forwarded() -> Vec<Row> {
    let (client, vip) = ("198.51.100.50", format!("192.0.2.{SCTP}"));
    let short = |len: usize| Frame::raw(client, &vip, 132, &[0x0f; 12][..len]);
    vec![
        unsent("SCTP, a header of 11 bytes", short(11), Truncated),
        unsent("SCTP, no header", short(0), Truncated),
        unsent(
            "SCTP, a header of 11 bytes, padding",
            short(11).padding(&[0; 8]),
            Truncated,
        ),
        passed("SCTP to another port", Frame::sctp(C4, &vip4(SCTP, 80), INIT)),
        passed("SCTP to a VIP of TCP", Frame::sctp(C4, &vip4(6, 80), INIT)),
        passed(
            "SCTP to a host by its port",
            Frame::sctp(C4, "192.0.2.200:80", INIT),
        ),
    ]
}
