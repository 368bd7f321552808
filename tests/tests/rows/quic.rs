//! QUIC packets that name their backend: all test vectors of draft-ietf-quic-load-balancers-21 (appendix B, and the
//! example of §5.4.2.4), and what names nobody.
//!
//! In each service the backend that connection IDs name is draining, and another one is not: what is placed by its flow
//! goes to that one, from wherever it comes.

use lb_common::{
    abi::{Placement, Reason},
    quic::{ConnectionId, encode},
};
use lb_core::desired::{AdminState, Backend, Forwarder, Quic, QuicConfig, QuicKey, Service};
use lb_packets::Frame;

use super::{
    row::{CLIENT4 as C4, CLIENT6 as C6, Row, l2dsr, nat, tunnelled},
    service_set::{ServiceSet, service},
};

const KEY: &str = "8f95f09245765f80256934e50c66207f";
/// The key of the draft's example.
const EXAMPLE_KEY: &str = "fdf726a9893ec05c0632d3956680baf0";

/// The backend that connection IDs name, which drains.
const NAMED: &str = "10.0.0.2";
/// The backend that everything else goes to.
const OTHER: &str = "10.0.0.1";

/// Version 1 of QUIC.
const V1: u32 = 1;

/// A vector: key, server ID, nonce and what a server makes of them.
struct Vector {
    name: &'static str,
    key: Option<&'static str>,
    server_id: &'static str,
    nonce: &'static str,
    cid: &'static str,
}

/// The draft prints 20a350d28b4203487d970b for the second one and leaves out a zero at the beginning of its nonce, and
/// gives 3 for the last one's configuration, where its first byte says 0.
const VECTORS: [Vector; 7] = [
    Vector {
        name: "plaintext",
        key: None,
        server_id: "c4605e",
        nonce: "4504cc4f",
        cid: "07c4605e4504cc4f",
    },
    Vector {
        name: "plaintext, configuration 1",
        key: None,
        server_id: "350d28b420",
        nonce: "03487d970b",
        cid: "2a350d28b42003487d970b",
    },
    Vector {
        name: "four passes, odd",
        key: Some(KEY),
        server_id: "ed793a",
        nonce: "ee080dbf",
        cid: "0720b1d07b359d3c",
    },
    Vector {
        name: "four passes, long server ID",
        key: Some(KEY),
        server_id: "ed793a51d49b8f5fab65",
        nonce: "ee080dbf48",
        cid: "2fcc381bc74cb4fbad2823a3d1f8fed2",
    },
    Vector {
        name: "single pass",
        key: Some(KEY),
        server_id: "ed793a51d49b8f5f",
        nonce: "ee080dbf48c0d1e5",
        cid: "504dd2d05a7b0de9b2b9907afb5ecf8cc3",
    },
    Vector {
        name: "four passes, the longest",
        key: Some(KEY),
        server_id: "ed793a51d49b8f5fab",
        nonce: "ee080dbf48c0d1e55d",
        cid: "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc",
    },
    Vector {
        name: "four passes, the example",
        key: Some(EXAMPLE_KEY),
        server_id: "31441a",
        nonce: "9c69c275",
        cid: "0767947d29be054a",
    },
];

/// Last byte of the VIPs of the services that are no vector's.
const ROTATING: u8 = 20;
const TUNNEL: u8 = 21;
const NAT: u8 = 22;
const UNAWARE: u8 = 23;

/// Server IDs of the rotating service: of the named and the other backend, and of those that serve nobody.
const NAMED_ID: [u8; 2] = [0, 2];
const OTHER_ID: [u8; 2] = [0, 1];
const DOWN_ID: [u8; 2] = [0, 3];
const UNRESOLVED_ID: [u8; 2] = [0, 4];
const NOBODYS_ID: [u8; 2] = [0, 5];

/// The rotating service's configurations: number, length of the nonce, key.
const CONFIGS: [(u8, u8, Option<&str>); 4] = [
    (0, 4, None),
    (1, 14, Some(KEY)),
    (2, 8, Some(KEY)),
    (6, 17, Some(EXAMPLE_KEY)),
];

pub(crate) fn services() -> Vec<Service> {
    let vectors = VECTORS.iter().enumerate().map(|(i, vector)| {
        let config = config(bytes(vector.cid)[0] >> 5, vector.nonce.len() / 2, vector.key);
        // The other backend's ID is of the same length.
        let other = "00".repeat(vector.server_id.len() / 2);
        let ids = [other.as_str(), vector.server_id];
        routed(
            vector.name,
            i as u8 + 1,
            Forwarder::L2dsr,
            &[config],
            &ids,
            &[OTHER, NAMED],
        )
    });
    let configs = CONFIGS.map(|(id, nonce, key)| config(id, usize::from(nonce), key));
    let ids = ["0001", "0002", "0003", "0004"];
    let backends = [OTHER, NAMED, "10.0.0.208", "10.0.0.209"];
    let both = ["10.0.0.1", "10.0.0.2", "2001:db8:b::1", "2001:db8:b::2"];
    let mut all: Vec<Service> = vectors.collect();
    all.extend([
        routed("rotating", ROTATING, Forwarder::L2dsr, &configs, &ids, &backends),
        routed("tunnel", TUNNEL, Forwarder::Ipip, &configs, &ids, &backends[..2]),
        routed(
            "nat",
            NAT,
            Forwarder::Nat,
            &configs,
            &["0001", "0002", "0011", "0012"],
            &both,
        ),
    ]);
    let mut unaware = service(
        "unaware",
        UNAWARE,
        "udp",
        "443",
        Forwarder::L2dsr,
        &[OTHER, NAMED],
    );
    drain(&mut unaware.backends[1]);
    all.push(unaware);
    all
}

/// A service that is routed by connection IDs; backends whose address ends in 2 drain.
pub(crate) fn routed(
    name: &str,
    vip: u8,
    forwarder: Forwarder,
    configs: &[QuicConfig],
    ids: &[&str],
    backends: &[&str],
) -> Service {
    let name = name.replace([' ', ','], "");
    let mut service = service(&name, vip, "udp", "443", forwarder, backends);
    for (backend, id) in service.backends.iter_mut().zip(ids) {
        backend.server_id = Some(id.parse().unwrap());
        if backend.address.to_string().ends_with(".2") || backend.address.to_string().ends_with(":2") {
            drain(backend);
        }
    }
    let server_id_length = (ids[0].len() / 2) as u8;
    let configs = configs.iter().map(|config| QuicConfig {
        server_id_length,
        ..config.clone()
    });
    service.quic = Some(Quic {
        configs: configs.collect(),
    });
    service
}

fn drain(backend: &mut Backend) {
    backend.state = AdminState::Drain;
}

pub(crate) fn config(id: u8, nonce_length: usize, key: Option<&str>) -> QuicConfig {
    QuicConfig {
        id,
        server_id_length: 0,
        nonce_length: nonce_length as u8,
        key: key.map(|key| key.parse::<QuicKey>().unwrap()),
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = [vectors(), rotation(), forwarders()].concat();
    rows.extend(
        named()
            .into_iter()
            .map(|(name, data)| by_id(l2dsr(&format!("QUIC, {name}"), &to4(ROTATING, &data), NAMED))),
    );
    rows.extend(unroutable().into_iter().map(|(name, data)| {
        let name = format!("QUIC, {name}: by its flow");
        Row {
            opens: is_of_a_new_client(&data),
            ..by_flow(l2dsr(&name, &to4(ROTATING, &data), OTHER))
        }
    }));
    rows.push(by_flow(l2dsr(
        "QUIC for a service that is not routed by connection IDs",
        &to4(UNAWARE, &short(&cid(0, &NAMED_ID))),
        OTHER,
    )));
    rows.into_iter().map(|row| row.within(ServiceSet::Quic)).collect()
}

/// Each vector in both kinds of header and over both families.
fn vectors() -> Vec<Row> {
    let of = |(i, vector): (usize, &Vector)| {
        let (vip, cid) = (i as u8 + 1, bytes(vector.cid));
        let name = |what| format!("QUIC vector, {}, {what}", vector.name);
        let long = long(V1, &cid);
        [
            by_id(l2dsr(&name("short, IPv4"), &to4(vip, &short(&cid)), NAMED)),
            by_id(l2dsr(&name("short, IPv6"), &to6(vip, &short(&cid)), NAMED)),
            by_id(l2dsr(&name("long, IPv4"), &to4(vip, &long), NAMED)),
            by_id(l2dsr(&name("long, IPv6"), &to6(vip, &long), NAMED)),
        ]
    };
    VECTORS.iter().enumerate().flat_map(of).collect()
}

/// Several configurations live at once: each names both backends.
fn rotation() -> Vec<Row> {
    let of = |(id, ..): &(u8, u8, Option<&str>)| {
        let name = |whom| format!("QUIC, configuration {id} of four names {whom}");
        let (named, other) = (cid(*id, &NAMED_ID), cid(*id, &OTHER_ID));
        [
            by_id(l2dsr(&name("one"), &to4(ROTATING, &short(&named)), NAMED)),
            by_id(l2dsr(&name("the other"), &to6(ROTATING, &short(&other)), OTHER)),
        ]
    };
    CONFIGS.iter().flat_map(of).collect()
}

fn forwarders() -> Vec<Row> {
    let data = short(&cid(1, &NAMED_ID));
    let data6 = short(&cid(2, &[0, 0x12]));
    vec![
        by_id(tunnelled("QUIC through a tunnel", &to4(TUNNEL, &data), NAMED)),
        by_id(tunnelled(
            "QUIC over IPv6 through a tunnel",
            &to6(TUNNEL, &data),
            NAMED,
        )),
        by_id(nat("QUIC and nat", &to4(NAT, &data), NAMED)),
        by_id(nat("QUIC and nat over IPv6", &to6(NAT, &data6), "2001:db8:b::2")),
        by_flow(nat(
            "QUIC and nat, named in the other family: by its flow",
            &to6(NAT, &data),
            "2001:db8:b::1",
        )),
    ]
}

/// Packets that name the backend all the same.
fn named() -> Vec<(&'static str, Vec<u8>)> {
    let plain = cid(0, &NAMED_ID);
    let mut longest = plain.clone();
    longest.resize(20, 0x77);
    let mut longer = plain.clone();
    longer.resize(255, 0x77);
    let mut full = short(&plain);
    full.truncate(21);
    let mut bits = cid(2, &NAMED_ID);
    bits[0] |= 0x1f;
    vec![
        ("a version that nobody knows", long(0x0a1a_2a3a, &plain)),
        ("version 0", long(0, &plain)),
        ("a connection ID with more behind", long(V1, &longest)),
        ("the longest connection ID of any version", long(V1, &longer)),
        ("the shortest packet that is looked at", full),
        ("the other bits of the first byte set", short(&bits)),
        ("the other bits of the header's first byte set", {
            let mut data = short(&plain);
            data[0] = 0x7f;
            data
        }),
    ]
}

/// Whether a packet that names nobody has a whole long header: its sender has had no answer yet.
fn is_of_a_new_client(data: &[u8]) -> bool {
    const LONG_HEADER: usize = 6 + 20;
    data.len() >= LONG_HEADER && data[0] & 0x80 != 0
}

/// Packets that name nobody who could be sent to.
fn unroutable() -> Vec<(&'static str, Vec<u8>)> {
    let plain = cid(0, &NAMED_ID);
    let other_configuration = |rotation: u8| {
        let mut cid = plain.clone();
        cid[0] = rotation << 5 | cid[0] & 0x1f;
        short(&cid)
    };
    let mut little = short(&plain);
    little.truncate(20);
    let mut long_but_little = long(V1, &plain);
    long_but_little.truncate(25);
    vec![
        ("a server ID that is nobody's", short(&cid(1, &NOBODYS_ID))),
        (
            "a server ID that is nobody's, plaintext",
            short(&cid(0, &NOBODYS_ID)),
        ),
        (
            "a server ID that is nobody's, four passes",
            short(&cid(2, &NOBODYS_ID)),
        ),
        ("a backend that is down", short(&cid(1, &DOWN_ID))),
        (
            "a backend whose next hop is not known",
            short(&cid(2, &UNRESOLVED_ID)),
        ),
        ("a configuration that is not live", other_configuration(3)),
        ("the codepoint for unroutable", other_configuration(7)),
        ("a connection ID that is too short", long(V1, &plain[..6])),
        ("no connection ID", long(V1, &[])),
        ("a short packet that is too short", little),
        ("a long header that is too short", long_but_little),
        ("one byte", vec![0x40]),
        ("no data", Vec::new()),
    ]
}

/// A packet whose backend its connection ID names.
fn by_id(row: Row) -> Row {
    Row {
        placement: Some(Placement::ConnectionId),
        hash: None,
        ..row
    }
}

/// A packet that is placed as any other.
fn by_flow(row: Row) -> Row {
    assert_eq!(row.reason, Reason::Forwarded);
    Row {
        placement: Some(Placement::Slot),
        ..row
    }
}

fn to4(vip: u8, data: &[u8]) -> Frame {
    Frame::udp(C4, &format!("192.0.2.{vip}:443")).data(data)
}

fn to6(vip: u8, data: &[u8]) -> Frame {
    Frame::udp(C6, &format!("[2001:db8::{vip:x}]:443")).data(data)
}

/// A connection ID that a server with that ID makes by one of [`CONFIGS`].
pub(crate) fn cid(config: u8, server_id: &[u8]) -> Vec<u8> {
    let (_, nonce, key) = CONFIGS.iter().find(|(id, ..)| *id == config).unwrap();
    let nonce: Vec<u8> = (0..*nonce).map(|i| 0xa0 + i).collect();
    let key = key.map(|key| *key.parse::<QuicKey>().unwrap().bytes());
    let mut cid = [0; ConnectionId::MAX_BYTES];
    let first = config << 5 | (server_id.len() + nonce.len()) as u8;
    let len = encode(first, server_id, &nonce, key.as_ref(), &mut cid);
    cid[..len].to_vec()
}

/// A packet with a short header, as far as it can be told from outside (RFC 8999 §5.2).
pub(crate) fn short(cid: &[u8]) -> Vec<u8> {
    [&[0x43], cid, &[0x99; 24]].concat()
}

/// A packet with a long header (RFC 8999 §5.1).
fn long(version: u32, cid: &[u8]) -> Vec<u8> {
    let source = [4, 1, 2, 3, 4];
    [
        &[0xc3][..],
        &version.to_be_bytes(),
        &[cid.len() as u8],
        cid,
        &source,
        &[0x99; 24],
    ]
    .concat()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}
