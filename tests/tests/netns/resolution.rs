//! Backends whose next hop is unknown, and services that nobody can serve.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
};

use lb_api::view::BackendState;
use lb_lab::{
    Forwarder, Lab, NextHop, Route,
    traffic::{server::Server, udp},
};

use super::support::{
    LIMIT, NO_CHECK, PORT, Rig, SILENCE, Service, backend_addresses, lab, requests, server_for, wait_until,
};

/// An address on the backends' network that no host has at first.
fn nobodys(like: IpAddr) -> IpAddr {
    let address = if like.is_ipv4() { "10.0.0.250" } else { "fd00::250" };
    address.parse().unwrap()
}

fn unresolved_backend_heals(forwarder: Forwarder, v6: bool) {
    let lab = lab(forwarder, 2);
    let vip = lab.options().vips[usize::from(v6)];
    let (nobody, target) = (nobodys(vip), SocketAddr::new(vip, PORT));
    let service = Service::new(forwarder, &[vip])
        .key("check", NO_CHECK)
        .backend(lab.backends[0].address_like(vip))
        .backend(nobody);
    let rig = Rig::on_ports(lab, &service, &[PORT]);
    rig.wait_for_state("web", rig.lab.backends[0].address_like(vip), BackendState::Up);
    rig.wait_for_state("web", nobody, BackendState::Unresolved);
    wait_until("the kernel has given up the neighbour, and lb says so", || {
        let reason = rig.backend("web", nobody).reason.unwrap_or_default();
        reason.contains(&nobody.to_string())
    });
    let listing = rig.lb(&["list"]);
    let line = listing
        .lines()
        .find(|line| line.contains(&nobody.to_string()))
        .unwrap();
    let reason = rig.backend("web", nobody).reason.unwrap();
    assert!(line.contains("unresolved") && line.contains("0.0%"), "{line}");
    assert!(
        line.contains(reason.split(',').next().unwrap()),
        "{line} lacks the reason {reason:?}"
    );
    assert_eq!(requests(rig.client(), target, 60).len(), 1, "it gets no traffic");

    // A host comes up with the address.
    let host = &rig.lab.backends[1];
    host.namespace
        .netlink(async |netlink| {
            netlink
                .add_address(host.interface(), nobody, if v6 { 64 } else { 24 })
                .await
        })
        .unwrap();
    if forwarder.is_tunnel() {
        rig.lab.set_up(host).unwrap();
    }
    rig.wait_for_state("web", nobody, BackendState::Up);
    // With nat, packets arrive for the address itself.
    let listens = (forwarder == Forwarder::Nat)
        .then(|| Server::start(&host.namespace, &host.name, &[SocketAddr::new(nobody, PORT)]).unwrap());
    let shares = requests(rig.client(), target, 60);
    assert_eq!(shares.len(), 2, "{shares:?}");
    drop(listens);
}

#[test]
fn unresolved_l2dsr_backend_heals() {
    unresolved_backend_heals(Forwarder::L2dsr, false);
}

#[test]
fn unresolved_ipip_backend_heals() {
    unresolved_backend_heals(Forwarder::Ipip, true);
}

#[test]
fn unresolved_nat_backend_heals() {
    unresolved_backend_heals(Forwarder::Nat, true);
}

#[test]
fn backend_without_a_route_is_unresolved() {
    let lab = lab(Forwarder::Ipip, 1);
    let vip = lab.options().vips[0];
    let far: IpAddr = "203.0.113.7".parse().unwrap();
    let service = Service::new(Forwarder::Ipip, &[vip])
        .key("check", NO_CHECK)
        .backend(far);
    let rig = Rig::on_ports(lab, &service, &[]);
    wait_until("lb says that there is no route", || {
        let backend = rig.backend("web", far);
        let reason = backend.reason.unwrap_or_default();
        backend.state == BackendState::Unresolved && reason.contains("no route")
    });
}

/// The balancer itself owns the VIP and listens there.
fn own_listener(lab: &Lab, vip: IpAddr) -> Server {
    let balancer = &lab.balancer;
    let prefix = if vip.is_ipv4() { 32 } else { 128 };
    balancer
        .namespace
        .netlink(async |netlink| netlink.add_address("lo", vip, prefix).await)
        .unwrap();
    Server::start(&balancer.namespace, &balancer.name, &[SocketAddr::new(vip, PORT)]).unwrap()
}

#[test]
fn empty_service_drops_and_counts() {
    let lab = lab(Forwarder::L2dsr, 1);
    let vips = lab.options().vips.clone();
    let _listeners: Vec<Server> = vips.iter().map(|&vip| own_listener(&lab, vip)).collect();
    let web = Service::new(Forwarder::L2dsr, &vips).backend(nobodys(vips[0]));
    let echo = web.clone().text("name", "echo").text("protocol", "udp");
    let rig = Rig::on_ports(lab, &format!("{web}{echo}"), &[]);
    let client = &rig.client().namespace;
    for &vip in &vips {
        let target = SocketAddr::new(vip, PORT);
        let before = rig.count("no-backend");
        let answer = udp::ask(client, target, b"anybody?", SILENCE);
        assert!(answer.is_err(), "{target} answers {answer:?}");
        assert_eq!(rig.count("no-backend"), before + 1, "{target}");
        let connect = || TcpStream::connect_timeout(&target, SILENCE).map(drop);
        let connected = client.run(connect).unwrap();
        assert!(connected.is_err(), "{target} is connected to");
        // The first SYN, and perhaps its repetition.
        let counted = rig.count("no-backend") - before;
        assert!((2..=4).contains(&counted), "{target}: {counted}");
    }
    assert_eq!(rig.count("forwarded"), 0);
}

#[test]
fn on_empty_pass_leaves_packets_to_the_host() {
    let lab = lab(Forwarder::L2dsr, 1);
    let vip = lab.options().vips[1];
    let target = SocketAddr::new(vip, PORT);
    let _listener = own_listener(&lab, vip);
    let addresses = backend_addresses(&lab, vip);
    let service = Service::new(Forwarder::L2dsr, &[vip])
        .text("on_empty", "pass")
        .backends(&addresses);
    let mut rig = Rig::new(lab, &service);
    assert_eq!(server_for(rig.client(), target), "backend-1");
    rig.kill_server(0);
    rig.wait_for_state("web", addresses[0], BackendState::Down);
    let before = rig.count("empty-passed");
    assert_eq!(server_for(rig.client(), target), "balancer");
    assert!(rig.count("empty-passed") > before);
    rig.revive_server(0);
    rig.wait_for_state("web", addresses[0], BackendState::Up);
    assert_eq!(server_for(rig.client(), target), "backend-1");
}

/// A balancer that forwards, and whose VIP a router sends to it.
struct Routed {
    rig: Rig,
    vip: IpAddr,
    router: IpAddr,
}

impl Routed {
    fn new() -> Self {
        let lab = lab(Forwarder::Nat, 1);
        let vip = lab.options().vips[0];
        let service = Service::new(Forwarder::Nat, &[vip])
            .key("check", NO_CHECK)
            .backend(lab.backends[0].address_like(vip));
        let rig = Rig::on_ports(lab, &service, &[PORT]);
        let router = rig.client().address_like(vip);
        Self { rig, vip, router }
    }

    /// The router is the balancer's way to everywhere.
    fn add_default_route(&self) {
        let everywhere = Route {
            destination: "0.0.0.0".parse().unwrap(),
            prefix: 0,
            next: NextHop::Via(self.router),
            mtu: None,
        };
        let balancer = &self.rig.lab.balancer.namespace;
        balancer
            .netlink(async |netlink| netlink.add_route(&everywhere).await)
            .unwrap();
    }

    fn is_warned(&self) -> bool {
        let Self { rig, vip, router } = self;
        let warnings = rig.agent.status().unwrap().warnings;
        let told = format!("packets to {vip} that are for no service are sent on to {router}");
        warnings.iter().any(|warning| warning.contains(&told))
    }

    /// IPv4 packets that the balancer's kernel has forwarded.
    fn forwarded(&self) -> u64 {
        let balancer = &self.rig.lab.balancer.namespace;
        let read = || std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let counters = balancer.run(read).unwrap();
        let mut lines = counters.lines().filter(|line| line.starts_with("Ip:"));
        let mut words = || lines.next().unwrap().split_whitespace();
        let (names, values) = (words(), words());
        let counter = names.zip(values).find(|(name, _)| *name == "ForwDatagrams");
        counter.unwrap().1.parse().unwrap()
    }

    /// What a client's datagram to a port meets that no service has.
    fn knock(&self) -> ErrorKind {
        let client = &self.rig.client().namespace;
        let socket = client
            .run(|| UdpSocket::bind(SocketAddr::new(self.router, 0)).unwrap())
            .unwrap();
        socket.connect(SocketAddr::new(self.vip, PORT + 1)).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        socket.send(b"anybody?").unwrap();
        socket.recv(&mut [0; 64]).err().unwrap().kind()
    }
}

#[test]
fn a_vip_whose_route_leads_back_out_is_warned_of() {
    let routed = Routed::new();
    assert!(!routed.is_warned(), "there is no route to it");
    routed.add_default_route();
    wait_until("the default route is noticed", || routed.is_warned());
    let balancer = &routed.rig.lab.balancer.namespace;
    balancer
        .netlink(async |netlink| netlink.add_address("lo", routed.vip, 32).await)
        .unwrap();
    wait_until("the VIP ends here", || !routed.is_warned());
}

#[test]
fn what_no_service_takes_does_not_go_back_to_the_router() {
    let routed = Routed::new();
    let rig = &routed.rig;
    routed.add_default_route();
    wait_until("the default route is noticed", || routed.is_warned());
    assert_eq!(routed.knock(), ErrorKind::WouldBlock);
    assert_eq!(routed.forwarded(), 1, "it would go round");

    rig.lb(&["service", "set", "web", "--unserved", "reject"]);
    assert!(!routed.is_warned());
    assert_eq!(routed.knock(), ErrorKind::ConnectionRefused);
    let closed = SocketAddr::new(routed.vip, PORT + 1);
    let client = &rig.client().namespace;
    let tcp = client.run(|| TcpStream::connect_timeout(&closed, LIMIT)).unwrap();
    assert_eq!(tcp.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    assert_eq!(rig.count("unserved-answered"), 2);

    rig.lb(&["service", "set", "web", "--unserved", "drop"]);
    assert_eq!(routed.knock(), ErrorKind::WouldBlock);
    assert_eq!(rig.count("unserved"), 1);
    assert_eq!(routed.forwarded(), 1);
    assert_eq!(
        server_for(rig.client(), SocketAddr::new(routed.vip, PORT)),
        "backend-1"
    );
}
