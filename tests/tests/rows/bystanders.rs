//! Traffic that is not for a service: it passes untouched, whatever it is.

use lb_common::abi::Reason::NotIp;
use lb_packets::Frame;

use super::{
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, passed, unsent},
    service_set::ServiceSet,
};

const A4: &str = "198.51.100.50";
const A6: &str = "2001:db8:c::50";
const VIP4: &str = "192.0.2.1";
const VIP6: &str = "2001:db8::1";

pub(crate) fn rows() -> Vec<Row> {
    [not_ip(), no_service(), protocols()].concat()
}

fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let macs = Frame::tcp(C4, "192.0.2.1:80").macs.concat();
    [&macs[..], &ether_type.to_be_bytes(), payload].concat()
}

fn not_ip() -> Vec<Row> {
    let packet = Frame::tcp(C4, "192.0.2.1:80").ip_bytes();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[0; 20]].concat();
    vec![
        unsent("ARP", ethernet(0x0806, &arp), NotIp),
        unsent("LLDP", ethernet(0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0, 1]), NotIp),
        unsent("MPLS", ethernet(0x8847, &packet), NotIp),
        unsent(
            "spanning tree (802.3 with a length)",
            ethernet(38, &[0x42; 38]),
            NotIp,
        ),
        unsent("an EtherType of its own", ethernet(0x88b5, &packet), NotIp),
        unsent("no payload at all", ethernet(0x0806, &[]), NotIp),
    ]
}

fn no_service() -> Vec<Row> {
    vec![
        passed("another port of a VIP", Frame::tcp(C4, "192.0.2.1:81")),
        passed("another port of a VIP, IPv6", Frame::tcp(C6, "[2001:db8::1]:81")),
        passed("port 0 of a VIP", Frame::tcp(C4, "192.0.2.1:0")),
        passed("the port by the other protocol", Frame::udp(C4, "192.0.2.1:80")),
        passed("TCP to a VIP of UDP only", Frame::tcp(C4, "192.0.2.17:53")),
        passed(
            "UDP to any port of a TCP service",
            Frame::udp(C4, "192.0.2.6:1000"),
        ),
        passed("another address", Frame::tcp(C4, "192.0.2.200:80")),
        passed("another address, IPv6", Frame::tcp(C6, "[2001:db8::200]:80")),
        passed(
            "another address with TTL 1",
            Frame::tcp(C4, "192.0.2.200:80").ttl(1),
        ),
        passed(
            "another address with TTL 0",
            Frame::udp(C4, "192.0.2.200:80").ttl(0),
        ),
        passed(
            "another address with options",
            Frame::tcp(C4, "192.0.2.200:80").ip_options(&[1; 20]),
        ),
        passed(
            "another address, a jumbo frame",
            Frame::udp(C4, "192.0.2.200:80").ip_len(3000),
        ),
        passed("from a VIP", Frame::tcp("192.0.2.1:80", C4)),
        passed("from a VIP, IPv6", Frame::tcp("[2001:db8::1]:80", C6)),
        passed("the balancer's own flow", Frame::tcp(C4, "198.51.100.1:22")),
        passed("broadcast", Frame::udp("0.0.0.0:68", "255.255.255.255:67")),
        passed("multicast", Frame::udp(C4, "224.0.0.251:5353")),
        passed("multicast, IPv6", Frame::udp(C6, "[ff02::fb]:5353")),
        passed("all zero addresses", Frame::udp("0.0.0.0:1", "0.0.0.0:1")),
        passed("all zero addresses, IPv6", Frame::udp("[::]:1", "[::]:1")),
        passed("without any services", Frame::tcp(C4, "192.0.2.1:80")).within(ServiceSet::Nothing),
        passed("without any services, IPv6", Frame::tcp(C6, "[2001:db8::1]:80")).within(ServiceSet::Nothing),
        passed(
            "any port, where no service takes any",
            Frame::tcp(C4, "192.0.2.1:81"),
        )
        .within(ServiceSet::Plain),
    ]
}

fn protocols() -> Vec<Row> {
    let to = |name: &str, protocol, bytes: &[u8]| {
        [
            passed(format!("{name} to a VIP"), Frame::raw(A4, VIP4, protocol, bytes)),
            passed(
                format!("{name} to a VIP, IPv6"),
                Frame::raw(A6, VIP6, protocol, bytes),
            ),
            passed(
                format!("{name} to a host"),
                Frame::raw(A4, "192.0.2.200", protocol, bytes),
            ),
        ]
    };
    let igmp = Frame::raw(A4, "224.0.0.22", 2, &[0x22, 0, 0xf9, 0x02, 0, 0, 0, 1])
        .ttl(1)
        .ip_options(&[0x94, 4, 0, 0]);
    let mut rows = vec![
        passed("IGMP with router alert", igmp),
        passed("no next header", Frame::raw(A6, VIP6, 59, &[])),
        passed("authentication header, IPv4", Frame::raw(A4, VIP4, 51, &[0; 24])),
        passed("protocol 0, IPv4", Frame::raw(A4, VIP4, 0, &[0; 24])),
    ];
    rows.extend(to("GRE", 47, &[0, 0, 8, 0, 0x45, 0]));
    rows.extend(to("ESP", 50, &[7; 24]));
    rows.extend(to("SCTP", 132, &[7; 24]));
    rows.extend(to("a protocol without payload", 253, &[]));
    rows.extend(to("the reserved protocol", 255, &[0; 8]));
    rows.extend(to(
        "a tunnelled packet",
        4,
        &Frame::tcp(C4, "192.0.2.1:80").ip_bytes(),
    ));
    rows
}
