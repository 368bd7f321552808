//! Lists of clients: who is not allowed is denied, and all else is as without a list.

use lb_common::abi::Reason::Denied;
use lb_core::desired::{Forwarder, Service, Source};
use lb_packets::Frame;

use super::{
    row::{Row, l2dsr, nat, tunnelled, unsent},
    service_set::{ServiceSet, service},
};

/// VIPs, by their last byte.
const BOTH: u8 = 1;
const DENY: u8 = 2;
const EXCEPTION: u8 = 3;
const IPV6_ONLY: u8 = 4;
const IPV4_OUT: u8 = 5;
const OPEN: u8 = 6;
const TUNNEL: u8 = 7;
const NAT: u8 = 8;

pub(crate) fn services() -> Vec<Service> {
    use Forwarder::{Ipip, L2dsr, Nat};
    let nets: [&[&str]; 2] = [
        &["198.51.100.0/24", "2001:db8:c::/48"],
        &["198.51.100.66", "2001:db8:c::66"],
    ];
    let [all, one] = nets;
    let nobody: &[&str] = &[];
    let backends = ["10.0.0.4", "2001:db8:b::4"];
    let listed = |name, vip, forwarder, backends: &[&str], allow: &[&str], deny: &[&str]| {
        let parsed = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Service {
            source: Some(Source {
                allow: parsed(allow),
                deny: parsed(deny),
            }),
            ..service(name, vip, "tcp", "80", forwarder, backends)
        }
    };
    let here = &["10.0.0.1"];
    vec![
        listed("both", BOTH, L2dsr, here, all, one),
        Service {
            protocol: lb_core::desired::Protocol::Udp,
            ..listed("both-udp", BOTH, L2dsr, here, all, one)
        },
        listed("deny", DENY, L2dsr, here, nobody, one),
        listed("exception", EXCEPTION, L2dsr, here, one, all),
        listed("ipv6-only", IPV6_ONLY, L2dsr, here, &["::/0"], nobody),
        listed("ipv4-out", IPV4_OUT, L2dsr, here, nobody, &["0.0.0.0/0"]),
        service("open", OPEN, "tcp", "80", L2dsr, here),
        listed("tunnel", TUNNEL, Ipip, here, all, one),
        listed("nat", NAT, Nat, &backends, all, one),
    ]
}

pub(crate) fn rows() -> Vec<Row> {
    let inside = ["198.51.100.50", "2001:db8:c::50"];
    let named = ["198.51.100.66", "2001:db8:c::66"];
    let beside = ["198.51.100.67", "2001:db8:c::67"];
    let outside = ["198.51.101.50", "2001:db8:d::50"];
    let mut rows = Vec::new();
    for clients in [inside, beside] {
        rows.extend(clients.map(|client| allowed(client, BOTH)));
        rows.extend(clients.map(|client| allowed(client, DENY)));
        rows.extend(clients.map(|client| denied(client, EXCEPTION)));
    }
    for client in named {
        rows.extend([
            denied(client, BOTH),
            denied(client, DENY),
            allowed(client, EXCEPTION),
        ]);
        rows.extend([denied(client, TUNNEL), denied(client, NAT)]);
    }
    for client in outside {
        rows.extend([
            denied(client, BOTH),
            allowed(client, DENY),
            denied(client, EXCEPTION),
        ]);
    }
    // What is said of one family does not concern the other.
    rows.extend([denied(inside[0], IPV6_ONLY), allowed(inside[1], IPV6_ONLY)]);
    rows.extend([denied(inside[0], IPV4_OUT), allowed(inside[1], IPV4_OUT)]);
    for client in [inside, named, outside].concat() {
        rows.push(allowed(client, OPEN));
    }
    for client in inside {
        let (name, frame) = packet(client, TUNNEL);
        rows.push(tunnelled(&name, &frame, "10.0.0.1").within(ServiceSet::Lists));
        let (name, frame) = packet(client, NAT);
        let backend = if client.contains(':') {
            "2001:db8:b::4"
        } else {
            "10.0.0.4"
        };
        rows.push(nat(&name, &frame, backend).within(ServiceSet::Lists));
    }
    rows.extend(segments());
    rows
}

/// Whatever the packet says beside its addresses.
fn segments() -> Vec<Row> {
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    let (allowed, denied) = ("198.51.100.50:40000", "198.51.100.66:40000");
    let syn = Frame::tcp(denied, "192.0.2.1:80").flags(SYN);
    let rst = Frame::tcp(denied, "192.0.2.1:80").flags(RST);
    let udp = |client| Frame::udp(client, "192.0.2.1:80");
    vec![
        unsent("a SYN of a client that is denied", syn, Denied).within(ServiceSet::Lists),
        unsent("a RST of a client that is denied", rst, Denied).within(ServiceSet::Lists),
        unsent("UDP of a client that is denied", udp(denied), Denied).within(ServiceSet::Lists),
        l2dsr("UDP of a client that is allowed", &udp(allowed), "10.0.0.1").within(ServiceSet::Lists),
    ]
}

fn allowed(client: &str, vip: u8) -> Row {
    let (name, frame) = packet(client, vip);
    l2dsr(&name, &frame, "10.0.0.1").within(ServiceSet::Lists)
}

fn denied(client: &str, vip: u8) -> Row {
    let (name, frame) = packet(client, vip);
    unsent(name, frame, Denied).within(ServiceSet::Lists)
}

fn packet(client: &str, vip: u8) -> (String, Frame) {
    let (from, to) = match client.contains(':') {
        false => (format!("{client}:40000"), format!("192.0.2.{vip}:80")),
        true => (format!("[{client}]:40000"), format!("[2001:db8::{vip:x}]:80")),
    };
    (format!("lists, {client} to {to}"), Frame::tcp(&from, &to))
}
