//! Frames for other hosts, as hubs, mirror ports and forgetful switches bring them: they are the host's business, whatever
//! is in them.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::Reason::{NotIp, OtherHost};
use lb_core::observed::InterfaceMacs;
use lb_core::plan::MacTable;
use lb_packets::{Frame, Mac};
use lb_world::{Interfaces, OWN_MAC, ROUTER_MAC, UPPER_MAC, VIRTUAL_MAC};

use super::{
    host::{Host, INTERFACES},
    kernel::Kernel,
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, answered, l2dsr, nat, passed, returned, unsent},
    service_set::ServiceSet,
};

/// Of others on the wire, which differ from the balancer's in one byte each.
const OTHERS: [Mac; 6] = [
    [0, 0, 0, 0, 0, 0xaa],
    [2, 1, 0, 0, 0, 0xaa],
    [2, 0, 1, 0, 0, 0xaa],
    [2, 0, 0, 1, 0, 0xaa],
    [2, 0, 0, 0, 2, 0xaa],
    [2, 0, 0, 0, 0, 0xab],
];
const GROUPS: [Mac; 3] = [
    [0xff; 6],
    [0x01, 0, 0x5e, 0, 0, 0xaa],
    [0x33, 0x33, 0, 0, 0, 0xaa],
];
const TAG: [u16; 2] = [0x8100, 100];

fn table(interfaces: &[(u32, Mac, &[Mac])], named: &[Mac]) -> MacTable {
    let macs = |(index, own, others): &(u32, Mac, &[Mac])| {
        let macs = InterfaceMacs {
            own: *own,
            others: BTreeSet::from_iter(others.iter().copied()),
            master: None,
        };
        (*index, macs)
    };
    let named: Vec<_> = named.iter().map(|mac| (*mac).into()).collect();
    MacTable::new(&BTreeMap::from_iter(interfaces.iter().map(macs)), &named)
}

pub(crate) fn rows() -> Vec<Row> {
    [for_others(), for_groups(), for_this_one()].concat()
}

fn to(mac: Mac, frame: Frame) -> Frame {
    frame.macs(mac, ROUTER_MAC)
}

/// Packets of all kinds that would be balanced or answered.
fn packets() -> Vec<(&'static str, Frame)> {
    let echo6 = Frame::echo("2001:db8:c::50", "2001:db8::1");
    let quoted = Frame::tcp("192.0.2.1:80", C4).ip_bytes();
    let error = Frame::icmp(
        "198.51.100.50",
        "192.0.2.1",
        [3, 4],
        [&[0; 4][..], &quoted].concat(),
    );
    vec![
        ("TCP", Frame::tcp(C4, "192.0.2.1:80")),
        ("TCP over IPv6", Frame::tcp(C6, "[2001:db8::1]:80")),
        ("UDP", Frame::udp(C4, "192.0.2.1:53")),
        ("UDP for nat", Frame::udp(C6, "[2001:db8::4]:53")),
        ("a backend's answer", Frame::tcp("10.0.0.4:80", C4)),
        ("an echo request", Frame::echo("198.51.100.50", "192.0.2.1")),
        ("an echo request over IPv6", echo6),
        ("an ICMP error", error),
        ("a fragment", Frame::udp(C4, "192.0.2.1:53").fragment(0x2000)),
        ("the last hop", Frame::tcp(C4, "192.0.2.1:80").ttl(1)),
        ("for no service", Frame::tcp(C4, "192.0.2.200:80")),
        ("for no backend", Frame::tcp(C4, "192.0.2.10:80")),
    ]
}

fn for_others() -> Vec<Row> {
    let [.., other] = OTHERS;
    let mut rows = Vec::new();
    for (what, frame) in packets() {
        let frame = to(other, frame);
        rows.extend([
            unsent(format!("for another host: {what}"), frame.clone(), OtherHost),
            unsent(
                format!("for another host: {what} behind a tag"),
                frame.clone().tag(TAG[0], TAG[1]),
                OtherHost,
            ),
            unsent(
                format!("for another host: {what} behind two tags"),
                frame.tag(0x88a8, 7).tag(TAG[0], TAG[1]),
                OtherHost,
            ),
        ]);
    }
    for mac in OTHERS {
        let frame = to(mac, Frame::tcp(C4, "192.0.2.1:80"));
        rows.push(unsent(format!("for another host: {mac:02x?}"), frame, OtherHost));
    }
    let broken = to(other, Frame::tcp(C4, "192.0.2.1:80")).bytes();
    let ether_type = |ether_type: [u8; 2]| {
        let mut frame = broken.clone();
        frame[12..14].copy_from_slice(&ether_type);
        frame
    };
    rows.extend([
        unsent("for another host: cut off", &broken[..40], OtherHost),
        passed("for another host: cut off in its IP header", &broken[..30]),
        unsent("for another host: not IP", ether_type([0x08, 0x06]), NotIp),
    ]);
    rows
}

fn for_groups() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, frame) in packets() {
        for group in GROUPS {
            let frame = to(group, frame.clone());
            let name = format!("for the group {group:02x?}: {what}");
            rows.extend([
                unsent(name.clone(), frame.clone(), OtherHost),
                unsent(
                    format!("{name} behind a tag"),
                    frame.tag(TAG[0], TAG[1]),
                    OtherHost,
                ),
            ]);
        }
    }
    let [broadcast, group4, group6] = GROUPS;
    let mdns = || Frame::udp(C4, "224.0.0.251:5353");
    let dhcp = Frame::udp("0.0.0.0:68", "255.255.255.255:67");
    let solicitation = Frame::icmp("2001:db8:c::50", "ff02::1:ff00:1", [135, 0], vec![0; 20]).ttl(255);
    for (what, frame) in [
        ("mDNS", to(group4, mdns())),
        ("mDNS to all hosts of the link", to(broadcast, mdns())),
        ("mDNS over IPv6", to(group6, Frame::udp(C6, "[ff02::fb]:5353"))),
        ("SSDP", to(group4, Frame::udp(C4, "239.255.255.250:1900"))),
        ("DHCP", to(broadcast, dhcp)),
        ("a neighbour solicitation", to(group6, solicitation)),
    ] {
        rows.extend([
            passed(format!("for groups by frame and packet: {what}"), frame.clone()),
            passed(
                format!("for groups by frame and packet: {what} behind a tag"),
                frame.tag(TAG[0], TAG[1]),
            ),
        ]);
    }
    rows
}

fn for_this_one() -> Vec<Row> {
    let mut rows = Vec::new();
    for (mac, whose) in [(UPPER_MAC, "a macvlan"), (VIRTUAL_MAC, "a virtual router")] {
        let name = |what: &str| format!("for {whose}: {what}");
        let tcp = to(mac, Frame::tcp(C4, "192.0.2.1:80"));
        let answer = to(mac, Frame::tcp("10.0.0.4:80", C4));
        rows.extend([
            l2dsr(&name("TCP"), &tcp, "10.0.0.1"),
            l2dsr(
                &name("TCP behind a tag"),
                &tcp.clone().tag(TAG[0], TAG[1]),
                "10.0.0.1",
            ),
            l2dsr(
                &name("UDP over IPv6"),
                &to(mac, Frame::udp(C6, "[2001:db8::1]:53")),
                "10.0.0.1",
            ),
            nat(
                &name("UDP for nat"),
                &to(mac, Frame::udp(C4, "192.0.2.5:53")),
                "10.0.0.5:8080",
            ),
            answered(
                &name("an echo"),
                &to(mac, Frame::echo("198.51.100.50", "192.0.2.1")),
            ),
            returned(&name("an answer"), &answer, "192.0.2.4:80", "10.0.0.4"),
        ]);
    }
    rows
}

/// What the program knows, and at which of these MACs it takes frames for its own then.
fn tables(Interfaces { front, back, .. }: Interfaces) -> Vec<(&'static str, MacTable, Vec<Mac>)> {
    let [.., other] = OTHERS;
    let all = [OWN_MAC, UPPER_MAC, VIRTUAL_MAC, other].to_vec();
    let beside = (back, other, &[][..]);
    // The same place as the front interface's.
    let crowded = front + 16;
    vec![
        ("nothing is known", table(&[], &[VIRTUAL_MAC]), all.clone()),
        (
            "only the other interface is known",
            table(&[beside], &[]),
            all.clone(),
        ),
        (
            "both are known",
            table(&[(front, OWN_MAC, &[UPPER_MAC]), beside], &[]),
            vec![OWN_MAC, UPPER_MAC],
        ),
        (
            "one for both",
            table(&[(front, OWN_MAC, &[]), (back, other, &[OWN_MAC])], &[]),
            vec![OWN_MAC],
        ),
        (
            "another has its place",
            table(&[(front, OWN_MAC, &[]), (crowded, other, &[])], &[VIRTUAL_MAC]),
            vec![OWN_MAC, VIRTUAL_MAC],
        ),
    ]
}

#[test]
fn what_is_not_known_is_not_refused_and_each_interface_has_its_own() {
    let [.., other] = OTHERS;
    let frames = [OWN_MAC, UPPER_MAC, VIRTUAL_MAC, other].map(|mac| {
        let frame = to(mac, Frame::tcp(C4, "192.0.2.1:80"));
        (mac, frame.bytes())
    });
    let kernel = Kernel::new().unwrap();
    for (known, table, accepted) in tables(kernel.interfaces) {
        let checked = kernel.with_loaded(ServiceSet::Full, |loaded| {
            loaded.set_macs(&table)?;
            for (mac, frame) in &frames {
                let passed = loaded.explain(frame)?.reason == OtherHost;
                assert_eq!(passed, !accepted.contains(mac), "{known}: {mac:02x?}");
            }
            Ok(())
        });
        checked.unwrap();
    }
    for (known, table, accepted) in tables(INTERFACES) {
        let mut host = Host::new(ServiceSet::Full, INTERFACES);
        host.set_macs(table);
        for (mac, frame) in &frames {
            let passed = host.run(frame).reason == OtherHost;
            assert_eq!(passed, !accepted.contains(mac), "{known}: {mac:02x?}");
        }
    }
}

/// From one table to the next, each taking the place of the one before.
#[test]
fn macs_change_while_the_program_runs() {
    let kernel = Kernel::new().unwrap();
    let front = kernel.interfaces.front;
    let frame = |mac| to(mac, Frame::tcp(C4, "192.0.2.1:80")).bytes();
    let all = [OWN_MAC, UPPER_MAC, VIRTUAL_MAC];
    let checked = kernel.with_loaded(ServiceSet::Full, |loaded| {
        for (own, others, named) in [
            (OWN_MAC, vec![UPPER_MAC], vec![]),
            (UPPER_MAC, vec![], vec![]),
            (VIRTUAL_MAC, vec![OWN_MAC], vec![]),
            (OWN_MAC, vec![], vec![VIRTUAL_MAC]),
            (OWN_MAC, vec![], vec![]),
        ] {
            let accepted = [&[own][..], &others, &named].concat();
            loaded.set_macs(&table(&[(front, own, &others)], &named))?;
            for mac in all {
                let passed = loaded.explain(&frame(mac))?.reason == OtherHost;
                assert_eq!(passed, !accepted.contains(&mac), "{mac:02x?} of {accepted:02x?}");
            }
        }
        Ok(())
    });
    checked.unwrap();
}
