//! The lab itself, without `lb`: hosts talk, tunnels end, and nothing outlives its owner.
//!
//! These tests need root (network namespaces, XDP); they fail without it.
#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test's own steps is a failure of the test"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use hyper::{Request, body::Bytes};
use lb_tests::{
    lab::{Forwarder, Host, Lab, LabOptions, Namespace, NextHop, Route, find_binary},
    process::Process,
    traffic::{
        http,
        load::{Connections, Failure, Load, LoadOptions},
        server::Server,
        udp,
    },
};
use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

const PORT: u16 = 8080;
const SECOND: Duration = Duration::from_secs(1);
/// The kernel removes a namespace in the background.
const CLEANUP_LIMIT: Duration = Duration::from_secs(10);

fn lab(forwarder: Forwarder, backends: usize) -> Lab {
    Lab::new(LabOptions {
        backends,
        ..LabOptions::new(forwarder)
    })
    .unwrap()
}

fn serve(lab: &Lab, backend: &Host) -> Server {
    Server::start(
        &backend.namespace,
        &backend.name,
        &lab.listen_addresses(backend, PORT),
    )
    .unwrap()
}

fn get(path: &str) -> Request<http::Body> {
    Request::get(path)
        .header("host", "lab")
        .body(http::Body::default())
        .unwrap()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + CLEANUP_LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {CLEANUP_LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn hosts_talk_http_and_udp_in_both_families() {
    for forwarder in [Forwarder::L2dsr, Forwarder::Ipip, Forwarder::Nat] {
        let lab = lab(forwarder, 2);
        let servers: Vec<_> = lab.backends.iter().map(|backend| serve(&lab, backend)).collect();
        let client = &lab.clients[0].namespace;
        for backend in &lab.backends {
            for address in [backend.ipv4, backend.ipv6] {
                let target = SocketAddr::new(address, PORT);
                let answer = http::fetch(client, target, get("/"), SECOND).unwrap();
                assert_eq!(
                    http::backend_of(&answer),
                    Some(backend.name.as_str()),
                    "{forwarder:?} {target}"
                );
                let echo = udp::ask(client, target, b"hello", SECOND).unwrap();
                assert_eq!(
                    echo,
                    format!("{} hello", backend.name).into_bytes(),
                    "{forwarder:?} {target}"
                );
            }
        }
        for server in servers {
            assert_eq!(
                server.stats().unwrap().requests,
                2,
                "one over IPv4, one over IPv6"
            );
        }
    }
}

#[test]
fn server_sends_and_counts_bodies() {
    let lab = lab(Forwarder::L2dsr, 1);
    let server = serve(&lab, &lab.backends[0]);
    let client = &lab.clients[0].namespace;
    let target = SocketAddr::new(lab.backends[0].ipv4, PORT);
    let big = http::fetch(client, target, get("/big?bytes=1000001"), 10 * SECOND).unwrap();
    assert_eq!(big.body().len(), 1_000_001);
    let upload = Request::post("/")
        .header("host", "lab")
        .body(Bytes::from(vec![7; 300_000]).into())
        .unwrap();
    let answer = http::fetch(client, target, upload, 10 * SECOND).unwrap();
    assert_eq!(answer.body(), "300000");
    assert_eq!(server.stats().unwrap().uploaded, 300_000);
    assert_eq!(
        http::fetch(client, target, get("/health"), SECOND)
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        http::fetch(client, target, get("/nothing"), SECOND)
            .unwrap()
            .status(),
        404
    );
    assert_eq!(
        http::fetch(client, target, get("/big?bytes=all"), SECOND)
            .unwrap()
            .status(),
        400
    );
}

#[test]
fn load_records_every_request_and_every_failure() {
    let lab = lab(Forwarder::L2dsr, 1);
    let mut server = serve(&lab, &lab.backends[0]);
    let client = &lab.clients[0].namespace;
    let target = SocketAddr::new(lab.backends[0].ipv6, PORT);

    let records = Load::start(client, LoadOptions::new(target, 500, 100))
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(records.len(), 100);
    assert!(
        records
            .iter()
            .all(|record| record.outcome == Ok("backend-1".into())),
        "{records:?}"
    );
    let stats = server.stats().unwrap();
    assert_eq!(
        (stats.requests, stats.connections),
        (100, 101),
        "a connection a request, and the one that asks"
    );

    let options = LoadOptions {
        connections: Connections::LongLived(3),
        ..LoadOptions::new(target, 500, 100)
    };
    let records = Load::start(client, options.clone()).unwrap().wait().unwrap();
    let connections: BTreeSet<_> = records.iter().map(|record| record.connection).collect();
    assert_eq!((records.len(), connections.len()), (100, 3));
    let stats = server.stats().unwrap();
    assert_eq!(
        (stats.requests, stats.connections),
        (201, 105),
        "three connections, and the one that asks"
    );

    let endless = LoadOptions {
        requests: u64::MAX,
        ..options
    };
    let load = Load::start(client, endless).unwrap();
    wait_until("the long-lived connections answer", || {
        load.records_from(0).len() >= 6
    });
    assert!(server.process().kill().unwrap());
    let records = load.wait().unwrap();
    let failures: Vec<_> = records
        .iter()
        .filter_map(|record| record.outcome.as_ref().err())
        .collect();
    assert_eq!(
        failures.len(),
        3,
        "each connection breaks once and ends: {failures:?}"
    );

    let records = Load::start(client, LoadOptions::new(target, 500, 5))
        .unwrap()
        .wait()
        .unwrap();
    assert!(
        records
            .iter()
            .all(|record| record.outcome == Err(Failure::Refused)),
        "{records:?}"
    );
}

#[test]
fn backends_answers_fit_the_clients() {
    let lab = lab(Forwarder::L2dsr, 1);
    let _server = serve(&lab, &lab.backends[0]);
    for address in [lab.backends[0].ipv4, lab.backends[0].ipv6] {
        // The name in the answer makes it larger than the client's port takes, though not the backend's.
        let question = vec![b'x'; 1470];
        let answer = udp::ask(
            &lab.clients[0].namespace,
            SocketAddr::new(address, PORT),
            &question,
            SECOND,
        );
        assert_eq!(
            answer.unwrap().len(),
            "backend-1 ".len() + question.len(),
            "{address}"
        );
    }
}

#[test]
fn frames_on_the_wire_are_as_on_a_cable() {
    let lab = lab(Forwarder::L2dsr, 1);
    let _server = serve(&lab, &lab.backends[0]);
    let backend = &lab.backends[0];
    // ETH_P_ALL in network byte order, as the packet socket wants it.
    let all = Protocol::from(i32::from(0x0003_u16.to_be()));
    let capture = backend
        .namespace
        .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap())
        .unwrap();
    capture.set_recv_buffer_size(8 << 20).unwrap();
    capture.set_read_timeout(Some(SECOND / 5)).unwrap();

    let upload = Request::post("/")
        .header("host", "lab")
        .body(Bytes::from(vec![7; 200_000]).into())
        .unwrap();
    http::fetch(
        &lab.clients[0].namespace,
        SocketAddr::new(backend.ipv4, PORT),
        upload,
        SECOND,
    )
    .unwrap();

    let (mut segments, mut payload) = (0, 0);
    let mut buffer = [0; 1 << 16];
    while let Ok(length) = (&capture).read(&mut buffer) {
        let frame = PacketHeaders::from_ethernet_slice(&buffer[..length]).unwrap();
        let (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Tcp(tcp))) = (&frame.net, &frame.transport)
        else {
            continue;
        };
        assert!(length <= 14 + 1500, "a frame of {length} bytes");
        let expected = tcp.calc_checksum_ipv4(ip, frame.payload.slice()).unwrap();
        assert_eq!(tcp.checksum, expected, "a frame of {length} bytes");
        segments += 1;
        payload += frame.payload.slice().len();
    }
    assert!(
        payload > 200_000 && segments > 200_000 / 1448,
        "{payload} bytes in {segments} segments"
    );
}

/// Sends a UDP packet for the first VIP of `inner`'s family to the backend, in an outer header of the family of
/// `outer`; true if a socket on the VIP receives it.
fn tunnelled_packet_arrives(lab: &Lab, outer: IpAddr, vip: IpAddr) -> bool {
    let (backend, client) = (&lab.backends[0], &lab.clients[0]);
    let socket = backend
        .namespace
        .run(|| UdpSocket::bind((vip, PORT)).unwrap())
        .unwrap();
    socket.set_read_timeout(Some(SECOND / 2)).unwrap();

    let packet = match (client.address_like(vip), vip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => unreachable!("both are of one family"),
    };
    let mut inner = Vec::new();
    packet.udp(5000, PORT).write(&mut inner, b"tunnelled").unwrap();
    // RFC 2003 and RFC 2473: 4 announces IPv4 inside, 41 IPv6.
    let protocol = Protocol::from(if vip.is_ipv4() { 4 } else { 41 });
    let sent = client.namespace.run(|| {
        let socket = Socket::new(
            Domain::for_address(SocketAddr::new(outer, 0)),
            Type::RAW,
            Some(protocol),
        )
        .unwrap();
        socket.send_to(&inner, &SocketAddr::new(outer, 0).into()).unwrap()
    });
    assert_eq!(sent.unwrap(), inner.len());

    let mut buffer = [0; 64];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => {
            assert_eq!(&buffer[..length], b"tunnelled");
            assert_eq!(from, SocketAddr::new(client.address_like(vip), 5000));
            true
        }
        Err(_) => false,
    }
}

#[test]
fn backend_strips_all_four_tunnels() {
    let lab = lab(Forwarder::Ipip, 1);
    for outer in [lab.backends[0].ipv4, lab.backends[0].ipv6] {
        for &vip in &lab.options().vips {
            assert!(tunnelled_packet_arrives(&lab, outer, vip), "{vip} inside {outer}");
        }
    }
}

#[test]
fn backend_without_decap_receives_no_tunnel() {
    let lab = lab(Forwarder::L2dsr, 1);
    let vip = lab.options().vips[0];
    assert!(!tunnelled_packet_arrives(&lab, lab.backends[0].ipv4, vip));
}

/// Whether the backend answers a client that looks for `vip`, an address of the backend's loopback, on the wire itself.
fn answers_on_the_wire_for(lab: &Lab, vip: IpAddr) -> bool {
    let (backend, client) = (&lab.backends[0], &lab.clients[0]);
    let prefix = if vip.is_ipv4() { 32 } else { 128 };
    backend
        .namespace
        .netlink(async |netlink| netlink.add_address("lo", vip, prefix).await)
        .unwrap();
    let route = Route {
        destination: vip,
        prefix,
        next: NextHop::On(client.interface()),
        mtu: None,
    };
    client
        .namespace
        .netlink(async |netlink| netlink.add_route(&route).await)
        .unwrap();
    let target = SocketAddr::new(vip, PORT);
    let _server = Server::start(&backend.namespace, &backend.name, &[target]).unwrap();
    udp::ask(&client.namespace, target, b"who has it?", SECOND).is_ok()
}

#[test]
fn a_backend_is_silent_about_its_vips() {
    let (ipv4, ipv6) = (
        IpAddr::from([10, 99, 0, 2]),
        IpAddr::from([0xfd99, 0, 0, 0, 0, 0, 0, 2]),
    );
    let silent = lab(Forwarder::L2dsr, 1);
    assert!(!answers_on_the_wire_for(&silent, ipv4));
    assert!(!answers_on_the_wire_for(&silent, ipv6));
    // `nat` backends own no VIP and are not silenced: the same question is answered there.
    assert!(answers_on_the_wire_for(&lab(Forwarder::Nat, 1), ipv4));
}

#[test]
fn namespace_ends_with_its_last_holder() {
    let near = Namespace::new("near").unwrap();
    let far = Namespace::new("far").unwrap();
    near.netlink(async |netlink| {
        netlink.add_veth("near0", "far0").await?;
        netlink.move_to("far0", &far, "far0").await
    })
    .unwrap();
    let links = || near.netlink(async |netlink| netlink.interfaces().await).unwrap();
    assert_eq!(links(), ["lo", "near0"]);
    let inode = far.inode().unwrap();
    assert!(
        !namespaces_in_use(std::process::id()).contains(&inode),
        "no thread of ours is left inside"
    );
    drop(far);
    // One end of a veth pair goes when the kernel removes the namespace that holds the other.
    wait_until("the far namespace is removed", || links() == ["lo"]);
}

#[test]
fn the_host_sees_no_link_of_the_lab() {
    let names = || -> BTreeSet<_> {
        let entries = fs::read_dir("/sys/class/net").unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = names();
    let lab = lab(Forwarder::Nat, 1);
    assert_eq!(names(), before);
    drop(lab);
    assert_eq!(names(), before);
}

#[test]
fn a_dropped_process_is_dead() {
    let lab = lab(Forwarder::L2dsr, 1);
    let mut server = serve(&lab, &lab.backends[0]);
    let pid = server.process().id();
    assert!(is_running(pid));
    drop(server);
    assert!(!is_running(pid));
}

#[test]
fn nothing_outlives_a_killed_owner() {
    let mut command = Command::new(find_binary("lb-lab-node", "LB_LAB_NODE").unwrap());
    command.arg("hold").stdout(Stdio::piped());
    let mut owner = Process::spawn("owner", command).unwrap();
    let mut line = String::new();
    BufReader::new(owner.child().stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let held: Value = serde_json::from_str(&line).unwrap();
    let numbers = |key: &str| -> Vec<u64> {
        held[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|number| number.as_u64().unwrap())
            .collect()
    };
    let children: Vec<u32> = numbers("processes")
        .into_iter()
        .map(|pid| pid.try_into().unwrap())
        .collect();
    let namespaces = numbers("namespaces");
    assert_eq!((children.len(), namespaces.len()), (3, 6));
    for &child in &children {
        assert!(is_running(child));
        assert!(
            namespaces_in_use(child)
                .iter()
                .all(|namespace| namespaces.contains(namespace))
        );
    }

    owner.signal(Signal::SIGKILL).unwrap();
    owner.wait(CLEANUP_LIMIT).unwrap();
    wait_until("the children are dead", || {
        !children.iter().any(|&child| is_running(child))
    });
    wait_until("no process uses the namespaces", || {
        let in_use: BTreeSet<u64> = processes().into_iter().flat_map(namespaces_in_use).collect();
        !namespaces.iter().any(|namespace| in_use.contains(namespace))
    });
}

/// Whether a process exists and is not just a dead entry that nobody has collected.
fn is_running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'))
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The inodes of the network namespaces that the threads of a process are in.
fn namespaces_in_use(pid: u32) -> BTreeSet<u64> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return BTreeSet::new();
    };
    threads
        .flatten()
        .filter_map(|thread| namespace_at(&thread.path().join("ns/net")))
        .collect()
}

/// The number in a link such as `net:[4026531840]`.
fn namespace_at(path: &Path) -> Option<u64> {
    let link = fs::read_link(path).ok()?;
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}
