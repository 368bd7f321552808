//! What is for no service is the host's business, untouched.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hyper::{Request, body::Bytes};
use lb_lab::{
    Forwarder, Lab, LabOptions, Mtu,
    traffic::{http, server::Server, udp},
};

use super::support::{
    Capture, LIMIT, PORT, Rig, Service, allow_ping, backend_addresses, get, lab, ping, requests, send_to,
};

/// Where the balancer's own services listen.
const OWN_PORT: u16 = 22;

/// The balancer's own addresses on the clients' network.
fn own_addresses() -> [IpAddr; 2] {
    ["10.1.0.1".parse().unwrap(), "fd01::1".parse().unwrap()]
}

/// A balancer with a service on all ports of its VIPs, and a server of its own.
fn busy_balancer(forwarder: Forwarder) -> (Rig, Server) {
    // The balancer's answers are its own: they have to fit the clients' side of the wire.
    let mtu = Mtu {
        balancer: 1500,
        ..Mtu::default()
    };
    let lab = Lab::new(LabOptions {
        backends: 2,
        mtu,
        ..LabOptions::new(forwarder)
    })
    .unwrap();
    let mut config = String::new();
    for &vip in &lab.options().vips {
        let any = Service::new(forwarder, &[vip])
            .text("name", if vip.is_ipv4() { "any4" } else { "any6" })
            .text("port", "any")
            .backends(&backend_addresses(&lab, vip));
        config += &any.to_string();
    }
    let server = serve_own(&lab);
    (Rig::new(lab, &config), server)
}

fn serve_own(lab: &Lab) -> Server {
    let listen: Vec<SocketAddr> = own_addresses()
        .iter()
        .map(|&own| SocketAddr::new(own, OWN_PORT))
        .collect();
    Server::start(&lab.balancer.namespace, "balancer", &listen).unwrap()
}

fn own_connections_work(forwarder: Forwarder) {
    let (rig, _server) = busy_balancer(forwarder);
    let client = rig.client();
    for own in own_addresses() {
        let target = SocketAddr::new(own, OWN_PORT);
        let shares = requests(client, target, 20);
        assert_eq!(shares.get("balancer"), Some(&20), "{target}");
        let download = http::fetch(&client.namespace, target, get("/big?bytes=2000000"), LIMIT).unwrap();
        assert_eq!(download.body().len(), 2_000_000, "{target}");
        let upload = Request::post("/").header("host", "lab");
        let upload = upload.body(Bytes::from(vec![7; 2_000_000]).into()).unwrap();
        let answer = http::fetch(&client.namespace, target, upload, LIMIT).unwrap();
        assert_eq!(answer.body(), "2000000", "{target}");
    }
    assert_eq!(rig.count("forwarded"), 0);
}

#[test]
fn own_connections_work_beside_l2dsr() {
    own_connections_work(Forwarder::L2dsr);
}

#[test]
fn own_connections_work_beside_nat() {
    own_connections_work(Forwarder::Nat);
}

#[test]
fn balancer_reaches_others_by_itself() {
    let (rig, _server) = busy_balancer(Forwarder::Nat);
    let balancer = &rig.lab.balancer;
    // Also backends of its own nat services, whose answers look like answers to clients.
    for backend in &rig.lab.backends {
        for address in [backend.ipv4, backend.ipv6] {
            let target = SocketAddr::new(address, PORT);
            let answer = http::fetch(&balancer.namespace, target, get("/"), LIMIT).unwrap();
            assert_eq!(http::backend_of(&answer), Some(backend.name.as_str()));
        }
    }
}

#[test]
fn fragments_for_the_host_arrive() {
    let (rig, _server) = busy_balancer(Forwarder::L2dsr);
    for own in own_addresses() {
        // More than the wire takes at once, there and back.
        let datagram: Vec<u8> = (0..1900_u32).map(|i| i as u8).collect();
        let target = SocketAddr::new(own, OWN_PORT);
        let answer = udp::ask(&rig.client().namespace, target, &datagram, LIMIT).unwrap();
        assert_eq!(answer, [b"balancer ", &datagram[..]].concat(), "{target}");
    }
    assert_eq!(rig.count("fragment"), 0);
}

#[test]
fn fragments_for_a_service_that_wants_none_are_dropped_and_counted() {
    let lab = lab(Forwarder::L2dsr, 1);
    let vip = lab.options().vips[0];
    let echo = Service::new(Forwarder::L2dsr, &[vip])
        .text("protocol", "udp")
        .text("fragments", "drop")
        .backends(&backend_addresses(&lab, vip));
    let rig = Rig::new(lab, &echo);
    let target = SocketAddr::new(vip, PORT);
    let answer = udp::ask(
        &rig.client().namespace,
        target,
        &[7; 1900],
        Duration::from_millis(500),
    );
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(rig.count("fragment"), 2, "both halves");
}

/// Neighbours are found after the program is attached, in both directions and families.
#[test]
fn neighbour_discovery_goes_on() {
    let (rig, _server) = busy_balancer(Forwarder::L2dsr);
    let (client, balancer) = (rig.client(), &rig.lab.balancer);
    for host in [client, balancer] {
        allow_ping(&host.namespace);
    }
    for own in own_addresses() {
        // Nobody has talked to the other before.
        assert!(
            ping(balancer, client.address_like(own), LIMIT),
            "from the balancer, {own}"
        );
        assert!(ping(client, own, LIMIT), "to the balancer, {own}");
    }
    assert_eq!(rig.count("echo-reply"), 0, "these were the kernel's answers");
}

#[test]
fn frames_that_are_no_ip_arrive_unchanged() {
    let (rig, _server) = busy_balancer(Forwarder::L2dsr);
    let (client, balancer) = (rig.client(), &rig.lab.balancer);
    // Local experimental EtherTypes (IEEE 802), and a frame with a length in its place (IEEE 802.3).
    for ether_type in [[0x88, 0xb5], [0x88, 0xb6], [0x00, 0x2e]] {
        let frame = [&balancer.mac[..], &client.mac, &ether_type, &[0x5a; 46]].concat();
        let capture = Capture::start(&balancer.namespace, balancer.interface());
        send_to(balancer, &rig.lab.wire, &frame);
        assert!(
            capture.wait_for(&frame).is_ok(),
            "{ether_type:x?} has not arrived"
        );
    }
}
