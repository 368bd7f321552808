//! Services by range of ports and by prefix: the one that says most exactly what it takes has the packet.

use lb_core::desired::{Forwarder, Service};
use lb_packets::Frame;

use super::{
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, l2dsr, passed},
    service_set::{ServiceSet, service},
};

/// Name and port of each service, its VIPs and the last byte of its backend's address.
const SERVICES: [(&str, &str, &str, [&str; 2], u8); 13] = [
    ("exact", "tcp", "443", HOST, 1),
    ("narrow", "tcp", "1000-1003", HOST, 2),
    ("wide", "tcp", "900-2000", HOST, 3),
    ("any", "tcp", "any", HOST, 4),
    ("odd", "udp", "5001-5002", HOST, 5),
    ("small", "tcp", "443", SMALL, 6),
    ("small-range", "tcp", "440-450", SMALL, 7),
    ("middle", "tcp", "any", MIDDLE, 8),
    ("large", "tcp", "80-90", LARGE, 9),
    ("large-any", "udp", "any", LARGE, 10),
    ("all", "tcp", "1-65535", ALL_PORTS, 11),
    ("pair", "tcp", "7000-7001", PAIR, 12),
    ("other", "tcp", "80", ["192.0.2.1", "2001:db8::1"], 13),
];

const HOST: [&str; 2] = ["203.0.113.5", "2001:db8:5::5"];
const ALL_PORTS: [&str; 2] = ["203.0.113.77", "2001:db8:5::77"];
const PAIR: [&str; 2] = ["203.0.113.224/31", "2001:db8:5::e0/127"];
const SMALL: [&str; 2] = ["203.0.113.0/28", "2001:db8:5::/64"];
const MIDDLE: [&str; 2] = ["203.0.113.0/24", "2001:db8:5::/56"];
const LARGE: [&str; 2] = ["203.0.112.0/20", "2001:db8:5::/48"];

pub(crate) fn services() -> Vec<Service> {
    let service = |(name, protocol, port, vips, backend): (&str, &str, &str, [&str; 2], u8)| {
        let backend = format!("10.0.0.{backend}");
        let mut service = service(name, 1, protocol, port, Forwarder::L2dsr, &[&backend]);
        service.vips = vips.iter().map(|vip| vip.parse().unwrap()).collect();
        service
    };
    SERVICES.map(service).to_vec()
}

pub(crate) fn rows() -> Vec<Row> {
    [ports(), addresses4(), addresses6(), unaffected()].concat()
}

/// To one address: exact port, narrower range, wider range, any port.
fn ports() -> Vec<Row> {
    let of_host = [
        (443, 1),
        (1000, 2),
        (1001, 2),
        (1003, 2),
        (999, 3),
        (1004, 3),
        (900, 3),
        (2000, 3),
        (899, 4),
        (2001, 4),
        (1, 4),
        (65_535, 4),
        (0, 4),
    ];
    let of_all = [1, 2, 3, 4, 80, 32_767, 32_768, 65_534, 65_535].map(|port| (port, 11));
    let mut rows = Vec::new();
    for (vips, ports) in [(HOST, &of_host[..]), (ALL_PORTS, &of_all)] {
        for vip in vips {
            rows.extend(
                ports
                    .iter()
                    .map(|(port, backend)| to("tcp", vip, *port, *backend)),
            );
        }
    }
    for vip in HOST {
        rows.extend([5001, 5002].map(|port| to("udp", vip, port, 5)));
        // The prefix around it takes what its own services do not.
        rows.extend([5000, 5003, 1].map(|port| to("udp", vip, port, 10)));
    }
    rows
}

fn addresses4() -> Vec<Row> {
    vec![
        to("tcp", "203.0.113.0", 443, 6),
        to("tcp", "203.0.113.6", 443, 6),
        to("tcp", "203.0.113.15", 443, 6),
        to("tcp", "203.0.113.6", 440, 7),
        to("tcp", "203.0.113.6", 442, 7),
        to("tcp", "203.0.113.6", 444, 7),
        to("tcp", "203.0.113.6", 450, 7),
        to("tcp", "203.0.113.6", 439, 8),
        to("tcp", "203.0.113.6", 451, 8),
        to("tcp", "203.0.113.16", 443, 8),
        to("tcp", "203.0.113.255", 1, 8),
        to("tcp", "203.0.113.6", 85, 8),
        to("tcp", "203.0.113.77", 0, 8),
        to("tcp", "203.0.113.224", 7000, 12),
        to("tcp", "203.0.113.225", 7001, 12),
        to("tcp", "203.0.113.226", 7000, 8),
        to("tcp", "203.0.112.0", 80, 9),
        to("tcp", "203.0.112.1", 90, 9),
        to("tcp", "203.0.127.255", 85, 9),
        to("udp", "203.0.112.1", 9, 10),
        to("udp", "203.0.113.6", 443, 10),
        nobody("tcp", "203.0.112.1", 79),
        nobody("tcp", "203.0.112.1", 91),
        nobody("tcp", "203.0.128.0", 85),
        nobody("tcp", "203.0.111.255", 85),
        nobody("udp", "203.0.128.0", 9),
    ]
}

fn addresses6() -> Vec<Row> {
    vec![
        to("tcp", "2001:db8:5::", 443, 6),
        to("tcp", "2001:db8:5::6", 443, 6),
        to("tcp", "2001:db8:5:0:ffff:ffff:ffff:ffff", 443, 6),
        to("tcp", "2001:db8:5::6", 440, 7),
        to("tcp", "2001:db8:5::6", 450, 7),
        to("tcp", "2001:db8:5::6", 451, 8),
        to("tcp", "2001:db8:5:1::", 443, 8),
        to("tcp", "2001:db8:5:ff:ffff:ffff:ffff:ffff", 1, 8),
        to("tcp", "2001:db8:5::e0", 7000, 12),
        to("tcp", "2001:db8:5::e1", 7001, 12),
        to("tcp", "2001:db8:5::e2", 7001, 8),
        to("tcp", "2001:db8:5:100::", 80, 9),
        to("tcp", "2001:db8:5:ffff:ffff:ffff:ffff:ffff", 90, 9),
        to("udp", "2001:db8:5:ffff::", 9, 10),
        nobody("tcp", "2001:db8:5:100::", 91),
        nobody("tcp", "2001:db8:4:ffff:ffff:ffff:ffff:ffff", 85),
        nobody("tcp", "2001:db8:6::", 85),
        nobody("udp", "2001:db8:6::", 9),
    ]
}

/// What does not go by ranges is as it is without any.
fn unaffected() -> Vec<Row> {
    let mut rows = Vec::new();
    for vip in ["192.0.2.1", "2001:db8::1"] {
        rows.push(to("tcp", vip, 80, 13));
        rows.extend([nobody("tcp", vip, 81), nobody("udp", vip, 80)]);
    }
    rows.extend(["192.0.2.2", "2001:db8::2"].map(|vip| nobody("tcp", vip, 80)));
    rows
}

fn to(protocol: &str, address: &str, port: u16, backend: u8) -> Row {
    let (name, frame) = packet(protocol, address, port);
    l2dsr(&name, &frame, &format!("10.0.0.{backend}")).within(ServiceSet::Ranges)
}

fn nobody(protocol: &str, address: &str, port: u16) -> Row {
    let (name, frame) = packet(protocol, address, port);
    passed(name, frame).within(ServiceSet::Ranges)
}

fn packet(protocol: &str, address: &str, port: u16) -> (String, Frame) {
    let (client, to) = match address.contains(':') {
        false => (C4, format!("{address}:{port}")),
        true => (C6, format!("[{address}]:{port}")),
    };
    let frame = match protocol {
        "tcp" => Frame::tcp(client, &to),
        _ => Frame::udp(client, &to),
    };
    (format!("ranges, {protocol} to {to}"), frame)
}
