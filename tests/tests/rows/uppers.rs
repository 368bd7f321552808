//! VLAN devices and interfaces' own addresses: answers leave with the tags of their route, whatever tags they came with,
//! and a hop that expires here is told of by the interface that the packet came in by.

use std::{collections::BTreeMap, sync::Arc};

use lb_common::abi::{DeviceEntry, Reason, TagsEntry};
use lb_packets::Frame;
use lb_userspace::netlink;
use lb_world::Interfaces;

use super::{
    host::{Host, INTERFACES},
    kernel::Kernel,
    routes::{BACK_MTU, VLAN},
    row::{CLIENT4, CLIENT6, Row, returned},
    service_set::ServiceSet,
};

/// The balancer's own addresses, where it has some.
const OWN4: [u8; 4] = [203, 0, 113, 1];
const OWN6: &str = "2001:db8:ee::1";
/// Where the source stands in a frame without tags.
const SOURCE4: usize = 26;
const SOURCE6: usize = 22;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (vip, from, to, client) in [
        ("192.0.2.4:80", "10.0.0.4", "203.0.114.9:40000", CLIENT4),
        (
            "[2001:db8::4]:80",
            "2001:db8:b::4",
            "[2001:db8:f0::9]:40000",
            CLIENT6,
        ),
    ] {
        let backend = if from.contains(':') {
            format!("[{from}]:80")
        } else {
            format!("{from}:80")
        };
        let over_vlan =
            |name: &str| returned(&format!("{name}, {from}"), &Frame::tcp(&backend, to), vip, from);
        let plain = |name: &str| {
            returned(
                &format!("{name}, {from}"),
                &Frame::tcp(&backend, client),
                vip,
                from,
            )
        };
        rows.extend([
            tagged(over_vlan("an answer over a VLAN device"), &[], &[VLAN]),
            tagged(over_vlan("an answer from one VLAN into another"), &[7], &[VLAN]),
            tagged(over_vlan("an answer from within two VLANs"), &[8, 7], &[VLAN]),
            tagged(plain("an answer out of a VLAN"), &[7], &[]),
            tagged(plain("an answer out of two VLANs"), &[8, 7], &[]),
        ]);
    }
    rows
}

/// With tags in front of what comes in and of what goes out, the outer one first.
fn tagged(mut row: Row, input: &[u16], output: &[u16]) -> Row {
    row.input = with_tags(&row.input, input);
    row.output = with_tags(&row.output, output);
    row
}

fn with_tags(frame: &[u8], vlans: &[u16]) -> Vec<u8> {
    let (macs, rest) = frame.split_at(12);
    let tags = vlans
        .iter()
        .flat_map(|vlan| [[0x81, 0], vlan.to_be_bytes()].concat());
    [macs, &tags.collect::<Vec<u8>>(), rest].concat()
}

/// What an agent would tell of the interfaces: one with addresses.
fn with_addresses(interfaces: Interfaces) -> netlink::Uppers {
    let upper = netlink::Upper {
        interface: interfaces.front,
        tags: TagsEntry::NONE,
        addresses: vec![OWN4.into(), OWN6.parse().unwrap()],
    };
    Arc::new(BTreeMap::from([(interfaces.front, upper)]))
}

/// Packets of clients and backends whose hop ends here, and of backends that are too long; why they leave, and the source
/// of the answer in its frame.
fn told() -> Vec<(Vec<u8>, Reason, usize, Vec<u8>)> {
    let own6: std::net::Ipv6Addr = OWN6.parse().unwrap();
    let (own4, own6) = ((SOURCE4, OWN4.to_vec()), (SOURCE6, own6.octets().to_vec()));
    let too_long = BACK_MTU + 1;
    [
        (Frame::udp(CLIENT4, "192.0.2.1:53").ttl(1), &own4),
        (Frame::udp(CLIENT6, "[2001:db8::1]:53").ttl(1), &own6),
        (Frame::tcp("10.0.0.4:80", CLIENT4).ttl(1), &own4),
        (Frame::tcp("[2001:db8:b::4]:80", CLIENT6).ttl(1), &own6),
        (
            Frame::tcp("10.0.0.4:80", "203.0.113.9:40000").ip_len(too_long),
            &own4,
        ),
        (
            Frame::tcp("[2001:db8:b::4]:80", "[2001:db8:ee::9]:40000").ip_len(too_long),
            &own6,
        ),
    ]
    .into_iter()
    .map(|(frame, (at, own))| {
        let reason = if frame.ttl == 1 {
            Reason::TtlAnswered
        } else {
            Reason::TooBigAnswered
        };
        (frame.bytes(), reason, *at, own.clone())
    })
    .collect()
}

#[test]
fn clients_hear_of_their_last_hop_and_backends_of_all_from_the_interface_itself() {
    let mut host = Host::with(&ServiceSet::CAPACITY, INTERFACES, |memory| {
        let own6: std::net::Ipv6Addr = OWN6.parse().unwrap();
        let upper = DeviceEntry {
            interface: INTERFACES.front,
            v4: u32::from_ne_bytes(OWN4),
            tags: TagsEntry::NONE,
            v6: bytemuck::cast(own6.octets()),
        };
        memory.uppers.insert(INTERFACES.front, upper);
        ServiceSet::Full.lay_out(INTERFACES, memory)
    });
    let mut frames = Vec::new();
    for (frame, reason, at, own) in told() {
        let verdict = host.run(&frame);
        assert_eq!(verdict.reason, reason);
        assert_eq!(verdict.frame[at..][..own.len()], own[..]);
        frames.push(verdict.frame);
    }
    let kernel = Kernel::new().unwrap();
    let checked = kernel.with_uppers(
        &with_addresses(kernel.interfaces),
        &ServiceSet::CAPACITY,
        |tables| ServiceSet::Full.lay_out(kernel.interfaces, tables),
        |loaded| {
            for ((frame, ..), expected) in told().iter().zip(&frames) {
                assert_eq!(loaded.explain(frame)?.frame, *expected);
            }
            Ok(())
        },
    );
    checked.unwrap();
}
