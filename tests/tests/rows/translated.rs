//! What of `nat` is more than a packet with ports: fragments, and ICMP errors about translated packets, both ways.

use std::net::SocketAddr;

use lb_common::abi::Reason::{Fragment, TtlExpired};
use lb_packets::Frame;

use super::row::{CLIENT4 as C4, CLIENT6 as C6, Row, hash, nat, passed, returned, unsent};

/// Routers behind the balancer, and before it.
const BEHIND4: &str = "10.0.9.9";
const BEHIND6: &str = "2001:db8:b::99";
const BEFORE4: &str = "198.51.100.7";
const BEFORE6: &str = "2001:db8:c::7";

pub(crate) fn rows() -> Vec<Row> {
    [
        fragments_forth(),
        fragments_back(),
        errors_forth(),
        errors_back(),
        not_translated(),
    ]
    .concat()
}

/// A service and its backend: the client's socket, the VIP's and the backend's.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    udp: bool,
    client: &'static str,
    vip: &'static str,
    backend: &'static str,
    /// The backend by its name.
    id: &'static str,
}

const WAYS: [Way; 8] = {
    const fn way(
        name: &'static str,
        udp: bool,
        vip: &'static str,
        backend: &'static str,
        id: &'static str,
    ) -> Way {
        let client = if vip.as_bytes()[0] == b'[' { C6 } else { C4 };
        Way {
            name,
            udp,
            client,
            vip,
            backend,
            id,
        }
    }
    [
        way("TCP over IPv4", false, "192.0.2.4:80", "10.0.0.4:80", "10.0.0.4"),
        way("UDP over IPv4", true, "192.0.2.4:53", "10.0.0.4:53", "10.0.0.4"),
        way(
            "TCP over IPv6",
            false,
            "[2001:db8::4]:80",
            "[2001:db8:b::4]:80",
            "2001:db8:b::4",
        ),
        way(
            "UDP over IPv6",
            true,
            "[2001:db8::4]:53",
            "[2001:db8:b::4]:53",
            "2001:db8:b::4",
        ),
        way(
            "TCP over IPv4 to another port",
            false,
            "192.0.2.5:80",
            "10.0.0.5:8080",
            "10.0.0.5:8080",
        ),
        way(
            "UDP over IPv4 to another port",
            true,
            "192.0.2.5:53",
            "10.0.0.5:8080",
            "10.0.0.5:8080",
        ),
        way(
            "TCP over IPv6 to another port",
            false,
            "[2001:db8::5]:80",
            "[2001:db8:b::5]:8080",
            "[2001:db8:b::5]:8080",
        ),
        way(
            "UDP over IPv6 to another port",
            true,
            "[2001:db8::5]:53",
            "[2001:db8:b::5]:8080",
            "[2001:db8:b::5]:8080",
        ),
    ]
};

impl Way {
    fn packet(self, from: &str, to: &str) -> Frame {
        if self.udp {
            Frame::udp(from, to)
        } else {
            Frame::tcp(from, to)
        }
    }

    fn is_v6(self) -> bool {
        self.vip.starts_with('[')
    }

    /// A packet of 101 bytes of data whose fragments are told apart by `id`.
    fn long(self, from: &str, to: &str, id: u32) -> Frame {
        self.packet(from, to).data(&[7; 101]).label(id).fragment(0)
    }
}

fn fragments_forth() -> Vec<Row> {
    let mut rows = Vec::new();
    for (way, id) in WAYS.into_iter().zip(0x300..) {
        let before = way.long(way.client, way.vip, id);
        let after = way.long(way.client, way.backend, id);
        let pairs = before.in_fragments(48).into_iter().zip(after.in_fragments(48));
        for (i, (fragment, translated)) in pairs.enumerate() {
            let name = format!("nat, {}, fragment {i}", way.name);
            rows.push(Row {
                output: nat("", &translated, way.id).output,
                hash: Some(hash(&before)),
                ..nat(&name, &fragment, way.id)
            });
        }
    }
    rows
}

fn fragments_back() -> Vec<Row> {
    let mut rows = Vec::new();
    for (way, id) in WAYS.into_iter().zip(0x320..) {
        let before = way.long(way.backend, way.client, id).in_fragments(48);
        let after = way.long(way.vip, way.client, id).in_fragments(48);
        for (i, (fragment, translated)) in before.iter().zip(&after).enumerate() {
            let name = format!("back, {}, fragment {i}", way.name);
            rows.push(Row {
                output: returned("", translated, way.vip, way.id).output,
                ..returned(&name, fragment, way.vip, way.id)
            });
        }
    }
    rows
}

/// An error from `router` to whom `packet` is from, which quotes `quoted` bytes of it.
fn error(router: &str, packet: &Frame, quoted: usize) -> Frame {
    let bytes = packet.ip_bytes();
    let kind = if packet.source.is_ipv4() { [3, 4] } else { [2, 0] };
    let rest = [&[0, 0, 0x05, 0x14], &bytes[..quoted.min(bytes.len())]].concat();
    Frame::icmp(router, &packet.source.to_string(), kind, rest)
}

/// How much is quoted: all, 8 bytes of the transport header, and around the end of TCP's checksum.
fn quotes(way: Way) -> [usize; 5] {
    let ip = if way.is_v6() { 40 } else { 20 };
    [1280, ip + 8, ip + 16, ip + 18, ip + 20]
}

fn errors_forth() -> Vec<Row> {
    let mut rows = Vec::new();
    for way in WAYS {
        let router = if way.is_v6() { BEFORE6 } else { BEFORE4 };
        let (before, after) = (
            way.packet(way.vip, way.client),
            way.packet(way.backend, way.client),
        );
        for quoted in quotes(way) {
            let name = format!("nat, {}, an error that quotes {quoted} bytes", way.name);
            let (error_before, error_after) = (error(router, &before, quoted), error(router, &after, quoted));
            rows.push(Row {
                output: nat("", &error_after, way.id).output,
                hash: Some(hash(&way.packet(way.client, way.vip))),
                ..nat(&name, &error_before, way.id)
            });
        }
    }
    rows
}

fn errors_back() -> Vec<Row> {
    let mut rows = Vec::new();
    for way in WAYS {
        let router = if way.is_v6() { BEHIND6 } else { BEHIND4 };
        let (before, after) = (
            way.packet(way.client, way.backend),
            way.packet(way.client, way.vip),
        );
        for quoted in quotes(way) {
            let name = format!("back, {}, an error that quotes {quoted} bytes", way.name);
            let (error_before, error_after) = (error(router, &before, quoted), error(router, &after, quoted));
            rows.push(Row {
                output: returned("", &error_after, way.vip, way.id).output,
                ..returned(&name, &error_before, way.vip, way.id)
            });
        }
        let backend: SocketAddr = way.backend.parse().unwrap();
        let from_backend = error(&backend.ip().to_string(), &before, 1280);
        rows.push(Row {
            output: returned(
                "",
                &error(&backend.ip().to_string(), &after, 1280),
                way.vip,
                way.id,
            )
            .output,
            ..returned(
                &format!("back, {}, an error of the backend's own", way.name),
                &from_backend.tag(0x8100, 12),
                way.vip,
                way.id,
            )
        });
    }
    let unsummed = |to: &str| Frame::udp(C4, to).unsummed();
    rows.push(Row {
        output: returned(
            "",
            &error(BEHIND4, &unsummed("192.0.2.5:53"), 1280),
            "192.0.2.5:53",
            "10.0.0.5:8080",
        )
        .output,
        ..returned(
            "back, an error about UDP without checksum",
            &error(BEHIND4, &unsummed("10.0.0.5:8080"), 1280),
            "192.0.2.5:53",
            "10.0.0.5:8080",
        )
    });
    rows
}

fn not_translated() -> Vec<Row> {
    let to = |packet: &Frame, address: &str| error(BEHIND4, packet, 1280).to(address.parse().unwrap(), 0);
    let tcp = |port: u16| Frame::tcp(C4, &format!("10.0.0.4:{port}"));
    let later = Frame::udp("10.0.0.4:53", C4)
        .data(&[7; 101])
        .label(0x350)
        .fragment(0)
        .in_fragments(48);
    vec![
        passed(
            "an error about a backend's other port",
            error(BEHIND4, &tcp(22), 1280),
        ),
        passed("an error to another client", to(&tcp(80), "198.51.100.51")),
        passed("a backend's later fragment before the first", later[1].clone()),
        unsent(
            "back, an error with TTL 1",
            error(BEHIND4, &tcp(80), 1280).ttl(1),
            TtlExpired,
        ),
        unsent(
            "a later fragment to nat before the first",
            Frame::raw("198.51.100.50", "192.0.2.4", 17, &[4; 24]).fragment(0x2010),
            Fragment,
        ),
    ]
}
