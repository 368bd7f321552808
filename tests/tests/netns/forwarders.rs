//! Every forwarder carries every kind of traffic, in both families.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hyper::{Request, body::Bytes};
use lb_lab::{
    Forwarder, Lab, LbOptions, NextHop, Route,
    traffic::{http, udp},
};

use super::support::{
    FAST_CHECK, LIMIT, PORT, Rig, SILENCE, Service, allow_ping, backend_addresses, get, lab, ping, requests,
    rig::lb, server_for,
};

const MEGABYTES: usize = 1 << 20;

/// One TCP and one UDP service on the first VIP of each family, with the backends of the same family.
fn both_families(lab: &Lab, forwarder: Forwarder) -> String {
    let mut config = String::new();
    for &vip in &lab.options().vips {
        let family = if vip.is_ipv4() { 4 } else { 6 };
        let web = Service::new(forwarder, &[vip])
            .text("name", &format!("web{family}"))
            .backends(&backend_addresses(lab, vip));
        let echo = web
            .clone()
            .text("name", &format!("echo{family}"))
            .text("protocol", "udp")
            // Every datagram stands for itself: none has to stay with the backend that came up first.
            .text("tracking", "never");
        config += &format!("{web}{echo}");
    }
    config
}

fn serves_everything(rig: &Rig) {
    for &vip in &rig.lab.options().vips {
        let target = SocketAddr::new(vip, PORT);
        let shares = requests(rig.client(), target, 60);
        assert_eq!(shares.len(), rig.lab.backends.len(), "{target}: {shares:?}");
        carries_megabytes(rig, target);
        echoes_datagrams(rig, target);
    }
}

fn carries_megabytes(rig: &Rig, target: SocketAddr) {
    let client = &rig.client().namespace;
    let download = get(&format!("/big?bytes={}", 6 * MEGABYTES));
    let answer = http::fetch(client, target, download, LIMIT).unwrap();
    assert_eq!(answer.body().len(), 6 * MEGABYTES, "{target}");
    let upload = Request::post("/").header("host", "lab");
    let upload = upload.body(Bytes::from(vec![7; 6 * MEGABYTES]).into()).unwrap();
    let answer = http::fetch(client, target, upload, LIMIT).unwrap();
    assert_eq!(answer.body(), (6 * MEGABYTES).to_string().as_bytes(), "{target}");
}

/// From sockets that are not connected, so that they show who answers.
fn echoes_datagrams(rig: &Rig, target: SocketAddr) {
    let client = rig.client();
    let mut servers = BTreeSet::new();
    for _ in 0..30 {
        let from = SocketAddr::new(client.address_like(target.ip()), 0);
        let socket = client.namespace.run(|| UdpSocket::bind(from).unwrap()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.send_to(b"hello", target).unwrap();
        let mut buffer = [0; 64];
        let (length, peer) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(peer, target, "the answer comes from the VIP");
        let answer = std::str::from_utf8(&buffer[..length]).unwrap();
        servers.insert(answer.strip_suffix(" hello").unwrap().to_owned());
    }
    assert_eq!(servers.len(), rig.lab.backends.len(), "{target}: {servers:?}");
}

fn forwarder_serves_both_families(forwarder: Forwarder) {
    let lab = lab(forwarder, 2);
    let config = both_families(&lab, forwarder);
    serves_everything(&Rig::new(lab, &config));
}

#[test]
fn l2dsr_serves_both_families() {
    forwarder_serves_both_families(Forwarder::L2dsr);
}

#[test]
fn ipip_serves_both_families() {
    forwarder_serves_both_families(Forwarder::Ipip);
}

#[test]
fn gue_serves_both_families() {
    forwarder_serves_both_families(Forwarder::Gue);
}

#[test]
fn fou_serves_both_families() {
    forwarder_serves_both_families(Forwarder::Fou);
}

#[test]
fn gre_serves_both_families() {
    forwarder_serves_both_families(Forwarder::Gre);
}

#[test]
fn nat_serves_both_families() {
    forwarder_serves_both_families(Forwarder::Nat);
}

/// Backends are known by addresses of the other family than the VIP's.
fn forwarder_crosses_families(forwarder: Forwarder) {
    let lab = lab(forwarder, 2);
    let mut config = String::new();
    for &vip in &lab.options().vips {
        let other = lab
            .options()
            .vips
            .iter()
            .find(|other| other.is_ipv4() != vip.is_ipv4());
        let family = if vip.is_ipv4() { 4 } else { 6 };
        let web = Service::new(forwarder, &[vip])
            .text("name", &format!("web{family}"))
            .backends(&backend_addresses(&lab, *other.unwrap()));
        let echo = web
            .clone()
            .text("name", &format!("echo{family}"))
            .text("protocol", "udp")
            .text("tracking", "never");
        config += &format!("{web}{echo}");
    }
    let rig = Rig::new(lab, &config);
    for &vip in &rig.lab.options().vips {
        let target = SocketAddr::new(vip, PORT);
        let shares = requests(rig.client(), target, 60);
        assert_eq!(shares.len(), 2, "{target}: {shares:?}");
        carries_megabytes(&rig, target);
        echoes_datagrams(&rig, target);
    }
}

#[test]
fn ipip_wraps_each_family_in_the_other() {
    forwarder_crosses_families(Forwarder::Ipip);
}

#[test]
fn gue_wraps_each_family_in_the_other() {
    forwarder_crosses_families(Forwarder::Gue);
}

#[test]
fn fou_wraps_each_family_in_the_other() {
    forwarder_crosses_families(Forwarder::Fou);
}

#[test]
fn gre_wraps_each_family_in_the_other() {
    forwarder_crosses_families(Forwarder::Gre);
}

#[test]
fn l2dsr_reaches_backends_by_addresses_of_the_other_family() {
    forwarder_crosses_families(Forwarder::L2dsr);
}

#[test]
fn generic_mode_serves_too() {
    let lab = lab(Forwarder::Ipip, 2);
    let options = LbOptions {
        mode: "generic".into(),
        ..LbOptions::new(lb(), Some(both_families(&lab, Forwarder::Ipip)))
    };
    let rig = Rig::with(lab, &options, &[PORT]);
    rig.wait_until_all_up();
    serves_everything(&rig);
}

#[test]
fn nat_translates_ports() {
    let lab = lab(Forwarder::Nat, 2);
    let mut config = String::new();
    for &vip in &lab.options().vips {
        for protocol in ["tcp", "udp"] {
            let mut service = Service::new(Forwarder::Nat, &[vip])
                .text(
                    "name",
                    &format!("{protocol}{}", if vip.is_ipv4() { 4 } else { 6 }),
                )
                .text("protocol", protocol)
                .text("tracking", if protocol == "udp" { "never" } else { "changes" })
                .key("check", FAST_CHECK.replace("80", "8080"));
            for address in backend_addresses(&lab, vip) {
                service = service.backend_with(address, ", port = 8080");
            }
            config += &service.to_string();
        }
    }
    let rig = Rig::on_ports(lab, &config, &[8080]);
    rig.wait_until_all_up();
    serves_everything(&rig);
}

#[test]
fn any_port_takes_what_no_other_service_has() {
    let lab = lab(Forwarder::L2dsr, 2);
    let vips = lab.options().vips.clone();
    let mut config = String::new();
    for &vip in &vips {
        let family = if vip.is_ipv4() { 4 } else { 6 };
        let addresses = backend_addresses(&lab, vip);
        let any = Service::new(Forwarder::L2dsr, &[vip])
            .text("name", &format!("any{family}"))
            .text("port", "any")
            .backend(addresses[0]);
        let exact = Service::new(Forwarder::L2dsr, &[vip])
            .text("name", &format!("exact{family}"))
            .key("port", 8080)
            .backend(addresses[1]);
        config += &format!("{any}{exact}");
    }
    let rig = Rig::on_ports(lab, &config, &[PORT, 8080, 9999]);
    rig.wait_until_all_up();
    for vip in vips {
        for (port, server) in [(80, "backend-1"), (8080, "backend-2"), (9999, "backend-1")] {
            assert_eq!(
                server_for(rig.client(), SocketAddr::new(vip, port)),
                server,
                "{vip} port {port}"
            );
        }
        // There is no UDP service on this VIP, and the balancer itself does not have it.
        let target = SocketAddr::new(vip, PORT);
        assert!(
            udp::ask(&rig.client().namespace, target, b"hello", SILENCE).is_err(),
            "{target}"
        );
    }
}

#[test]
fn client_ip_affinity_keeps_a_client_on_one_backend() {
    let lab = Lab::new(lb_lab::LabOptions {
        clients: 12,
        backends: 3,
        ..lb_lab::LabOptions::new(Forwarder::Ipip)
    })
    .unwrap();
    let vip = lab.options().vips[0];
    let service = Service::new(Forwarder::Ipip, &[vip])
        .text("affinity", "client-ip")
        .backends(&backend_addresses(&lab, vip));
    let rig = Rig::new(lab, &service);
    let mut servers = BTreeSet::new();
    for client in &rig.lab.clients {
        let shares = requests(client, SocketAddr::new(vip, PORT), 8);
        assert_eq!(shares.len(), 1, "{}: {shares:?}", client.name);
        servers.extend(shares.into_keys());
    }
    // Twelve clients on one of three backends by chance: one in 177,147.
    assert!(servers.len() > 1, "all clients are on {servers:?}");
}

#[test]
fn connections_show_the_vip_as_peer() {
    for forwarder in [Forwarder::L2dsr, Forwarder::Nat] {
        let lab = lab(forwarder, 1);
        let config = both_families(&lab, forwarder);
        let rig = Rig::new(lab, &config);
        for &vip in &rig.lab.options().vips {
            let target = SocketAddr::new(vip, PORT);
            let connect = || TcpStream::connect_timeout(&target, LIMIT).unwrap();
            let stream = rig.client().namespace.run(connect).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), target, "{forwarder:?}");
        }
    }
}

#[test]
fn vips_answer_pings_and_nothing_else_does() {
    let lab = lab(Forwarder::L2dsr, 1);
    let config = both_families(&lab, Forwarder::L2dsr);
    let rig = Rig::new(lab, &config);
    let client = rig.client();
    allow_ping(&client.namespace);
    for (vip, stranger) in rig.lab.options().vips.iter().zip(["10.99.0.2", "fd99::2"]) {
        let before = rig.count("echo-reply");
        assert!(ping(client, *vip, LIMIT), "{vip} does not answer");
        assert_eq!(rig.count("echo-reply"), before + 1, "lb has answered for {vip}");

        // The balancer's own address: its kernel answers, not lb.
        let own = if vip.is_ipv4() { "10.1.0.1" } else { "fd01::1" };
        assert!(ping(client, own.parse().unwrap(), LIMIT), "{own} does not answer");

        // Somebody else's address that the client has a route for through the balancer.
        let stranger: IpAddr = stranger.parse().unwrap();
        let route = Route {
            destination: stranger,
            prefix: if stranger.is_ipv4() { 32 } else { 128 },
            next: NextHop::Via(own.parse().unwrap()),
            mtu: None,
        };
        client
            .namespace
            .netlink(async |netlink| netlink.add_route(&route).await)
            .unwrap();
        assert!(
            !ping(client, stranger, Duration::from_secs(1)),
            "{stranger} answers"
        );
        assert_eq!(rig.count("echo-reply"), before + 1, "lb answers for the VIP only");
    }
}
