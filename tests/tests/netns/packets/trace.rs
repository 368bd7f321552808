//! Traceroute through the balancer, as traceroute(8) does it: packets with small TTLs, and who complains about them.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use lb_lab::{Forwarder, Host};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
    sockopt::{Ipv4RecvErr, Ipv4Ttl, Ipv6RecvErr, Ipv6Ttl},
};

use super::{LIMIT, Rig, services};
use crate::support::{PORT, SILENCE, lab};

/// What came back for one packet.
#[derive(Debug, PartialEq, Eq)]
enum Echo {
    /// An answer of the server.
    Answer,
    /// An ICMP error: who sent it, its type and code.
    Error(IpAddr, [u8; 2]),
    /// Nothing.
    Silence,
}

/// Sends one datagram with that TTL or hop limit from `client` to `target`.
fn probe(client: &Host, target: SocketAddr, ttl: u8, limit: Duration) -> Echo {
    let from = SocketAddr::new(client.address_like(target.ip()), 0);
    let socket = client.namespace.run(|| UdpSocket::bind(from).unwrap()).unwrap();
    socket.connect(target).unwrap();
    socket.set_nonblocking(true).unwrap();
    if target.is_ipv4() {
        setsockopt(&socket, Ipv4Ttl, &i32::from(ttl)).unwrap();
        setsockopt(&socket, Ipv4RecvErr, &true).unwrap();
    } else {
        setsockopt(&socket, Ipv6Ttl, &i32::from(ttl)).unwrap();
        setsockopt(&socket, Ipv6RecvErr, &true).unwrap();
    }
    socket.send(b"is it far?").unwrap();
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(error) = complaint(&socket) {
            return error;
        }
        if socket.recv(&mut [0; 64]).is_ok() {
            return Echo::Answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Echo::Silence
}

/// The ICMP error that the socket has been told of, if any.
fn complaint(socket: &UdpSocket) -> Option<Echo> {
    let mut space = nix::cmsg_space!([u8; 256]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut [], Some(&mut space), flags).ok()?;
    message.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4RecvErr(error, Some(from)) => {
            let from = u32::from_be(from.sin_addr.s_addr).into();
            Some(Echo::Error(IpAddr::V4(from), [error.ee_type, error.ee_code]))
        }
        ControlMessageOwned::Ipv6RecvErr(error, Some(from)) => {
            let from = from.sin6_addr.s6_addr.into();
            Some(Echo::Error(IpAddr::V6(from), [error.ee_type, error.ee_code]))
        }
        _ => None,
    })
}

/// The balancer's own addresses on the interface that clients reach it by.
fn own(vip: IpAddr) -> [IpAddr; 2] {
    let addresses = if vip.is_ipv4() {
        ["10.0.0.1", "10.1.0.1"]
    } else {
        ["fd00::1", "fd01::1"]
    };
    addresses.map(|address| address.parse().unwrap())
}

fn traced(forwarder: Forwarder, expired: &str) -> Rig {
    let lab = lab(forwarder, 1);
    let config = services(&lab, forwarder, |service| {
        service.text("protocol", "udp").text("ttl_expired", expired)
    });
    Rig::new(lab, &config)
}

#[test]
fn the_balancer_is_the_first_hop() {
    for forwarder in [Forwarder::L2dsr, Forwarder::Ipip, Forwarder::Nat] {
        let rig = traced(forwarder, "answer");
        for &vip in &rig.lab.options().vips {
            let target = SocketAddr::new(vip, PORT);
            let time_exceeded = if vip.is_ipv4() { [11, 0] } else { [3, 0] };
            match probe(rig.client(), target, 1, LIMIT) {
                Echo::Error(from, kind) => {
                    assert!(own(vip).contains(&from), "{forwarder:?}: {from}");
                    assert_eq!(kind, time_exceeded, "{forwarder:?}");
                }
                other => panic!("{forwarder:?} {vip}: {other:?}"),
            }
            assert_eq!(
                probe(rig.client(), target, 2, LIMIT),
                Echo::Answer,
                "{forwarder:?} {vip}"
            );
        }
        assert_eq!(rig.count("ttl-answered"), 2, "{forwarder:?}");
    }
}

#[test]
fn a_balancer_that_should_is_silent() {
    let rig = traced(Forwarder::L2dsr, "drop");
    for &vip in &rig.lab.options().vips {
        let target = SocketAddr::new(vip, PORT);
        assert_eq!(probe(rig.client(), target, 1, SILENCE), Echo::Silence, "{vip}");
        assert_eq!(probe(rig.client(), target, 2, LIMIT), Echo::Answer, "{vip}");
    }
    assert_eq!((rig.count("ttl-expired"), rig.count("ttl-answered")), (2, 0));
}

/// How a traceroute ends: at a port where nobody listens.
#[test]
fn the_last_hop_is_the_vip() {
    for forwarder in [Forwarder::L2dsr, Forwarder::Gue, Forwarder::Nat] {
        let lab = lab(forwarder, 1);
        let config = services(&lab, forwarder, |service| {
            service
                .text("protocol", "udp")
                .text("port", "any")
                .key("check", crate::support::NO_CHECK)
        });
        let rig = Rig::new(lab, &config);
        for &vip in &rig.lab.options().vips {
            let target = SocketAddr::new(vip, 33_434);
            let port_unreachable = if vip.is_ipv4() { [3, 3] } else { [1, 4] };
            let found = probe(rig.client(), target, 2, LIMIT);
            assert_eq!(found, Echo::Error(vip, port_unreachable), "{forwarder:?} {vip}");
        }
    }
}
