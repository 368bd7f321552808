//! A path of 1500 bytes, TCP with DF set, and nobody has changed an MTU: what a tunnel leaves room for must be found
//! out by those who send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use lb_lab::{Forwarder, Lab, Netlink, NextHop, Route};
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

use super::{LIMIT, Rig, narrow, service, services, transfer};
use crate::{fullnat::pool, support::NO_CHECK};

/// Where nobody of the rig listens.
const OTHER_PORT: u16 = 8080;

/// How many packets the clients were told to make smaller.
fn told(rig: &Rig) -> u64 {
    rig.count("too-big-answered")
}

fn large_transfers_succeed(forwarder: Forwarder, grows: bool) {
    let lab = narrow(forwarder);
    let config = services(&lab, forwarder, |service| service);
    let rig = Rig::new(lab, &config);
    for &vip in &rig.lab.options().vips {
        let before = told(&rig);
        transfer(&rig, vip);
        assert_eq!(
            told(&rig) > before,
            grows,
            "{vip}: {} were told",
            told(&rig) - before
        );
    }
    assert_eq!(rig.count("too-big"), 0, "nothing was lost in silence");
}

#[test]
fn l2dsr_needs_no_room() {
    large_transfers_succeed(Forwarder::L2dsr, false);
}

#[test]
fn nat_needs_no_room() {
    large_transfers_succeed(Forwarder::Nat, false);
}

#[test]
fn ipip_tells_clients_what_fits() {
    large_transfers_succeed(Forwarder::Ipip, true);
}

#[test]
fn gue_tells_clients_what_fits() {
    large_transfers_succeed(Forwarder::Gue, true);
}

#[test]
fn fou_tells_clients_what_fits() {
    large_transfers_succeed(Forwarder::Fou, true);
}

#[test]
fn gre_tells_clients_what_fits() {
    large_transfers_succeed(Forwarder::Gre, true);
}

#[test]
fn tunnels_across_families_tell_clients_what_fits() {
    for forwarder in [Forwarder::Ipip, Forwarder::Gue] {
        let lab = narrow(forwarder);
        let vips = lab.options().vips.clone();
        let across = |vip: IpAddr| vips.iter().find(|other| other.is_ipv4() != vip.is_ipv4());
        let config: String = vips
            .iter()
            .map(|vip| service(&lab, forwarder, *vip, *across(*vip).unwrap()).to_string())
            .collect();
        let rig = Rig::new(lab, &config);
        for &vip in &vips {
            let before = told(&rig);
            transfer(&rig, vip);
            assert!(told(&rig) > before, "{forwarder:?} {vip}");
        }
    }
}

/// The balancer's way to its clients takes less than anybody else knows of.
fn narrow_clients(lab: &Lab) {
    const MTU: u32 = 1_300;
    let balancer = &lab.balancer.namespace;
    // A route's MTU counts for packets of others only if its host says so, and with IPv6 not even then.
    let settings = [
        ("net/ipv4/ip_forward_use_pmtu", "1"),
        ("net/ipv6/conf/eth0/mtu", &MTU.to_string()),
    ];
    balancer.set_sysctls(&settings).unwrap();
    let route = Route {
        destination: lab.clients[0].ipv4,
        prefix: 32,
        next: NextHop::On("eth0"),
        mtu: Some(MTU),
    };
    let add = async |netlink: &Netlink| netlink.add_route(&route).await;
    balancer.netlink(add).unwrap();
}

#[test]
fn backends_are_told_what_fits_on_the_way_back() {
    for forwarder in [Forwarder::Nat, Forwarder::Fullnat] {
        let lab = narrow(forwarder);
        narrow_clients(&lab);
        let config = pool(&lab, "1024-32767") + &services(&lab, forwarder, |service| service);
        let rig = Rig::new(lab, &config);
        for &vip in &rig.lab.options().vips {
            let before = told(&rig);
            transfer(&rig, vip);
            assert!(told(&rig) > before, "{forwarder:?} {vip}");
        }
        assert_eq!(
            rig.count("too-big"),
            0,
            "{forwarder:?}: nothing was lost in silence"
        );
    }
}

/// The largest segments that a client and a backend send each other over a new connection, in bytes.
fn segments(rig: &Rig, vip: IpAddr) -> [u32; 2] {
    let target = SocketAddr::new(vip, OTHER_PORT);
    let any: IpAddr = if vip.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let listen = || TcpListener::bind((any, OTHER_PORT)).unwrap();
    let listener = rig.lab.backends[0].namespace.run(listen).unwrap();
    let connect = || TcpStream::connect_timeout(&target, LIMIT).unwrap();
    let client = rig.client().namespace.run(connect).unwrap();
    let (backend, _) = listener.accept().unwrap();
    [client, backend].map(|end| getsockopt(&end, TcpMaxSeg).unwrap())
}

/// A SYN limits what its receiver sends, and clients' SYNs pass the balancer.
#[test]
fn a_clamp_limits_segments() {
    const CLAMP: u32 = 1_200;
    for forwarder in [Forwarder::L2dsr, Forwarder::Gue, Forwarder::Nat] {
        let lab = narrow(forwarder);
        let config = services(&lab, forwarder, |service| {
            service
                .key("port", OTHER_PORT)
                .key("mss_clamp", CLAMP)
                .key("check", NO_CHECK)
        });
        let rig = Rig::new(lab, &config);
        for &vip in &rig.lab.options().vips {
            let [_, backend] = segments(&rig, vip);
            assert!(backend <= CLAMP, "{forwarder:?} {vip}: {backend}");
        }
    }
}
