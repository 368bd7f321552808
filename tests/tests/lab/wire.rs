//! What hosts put on the wire, and what they answer to.

use std::{
    io::Read,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use hyper::{Request, body::Bytes};
use lb_lab::{
    Forwarder, Lab, NextHop, Route,
    traffic::{http, server::Server, udp},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{PORT, SECOND, lab, serve};

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
