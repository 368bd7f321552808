//! Datagrams that are larger than the wire takes at once.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Instant,
};

use lb_lab::{Forwarder, traffic::udp};
use lb_packets::{Body, Frame};

use super::{LIMIT, Rig, narrow, services};
use crate::support::{PORT, lab, send_to};

/// Larger than five packets of 1500 bytes.
const LARGE: usize = 8_000;

fn large() -> Vec<u8> {
    (0..LARGE).map(|i| (i % 251) as u8).collect()
}

fn echoed(answer: &[u8], sent: &[u8]) -> bool {
    answer.starts_with(b"backend-") && answer.ends_with(sent)
}

fn echo_services(lab: &lb_lab::Lab, forwarder: Forwarder, fragments: &str) -> String {
    services(lab, forwarder, |service| {
        service
            .text("protocol", "udp")
            .text("tracking", "never")
            .text("fragments", fragments)
    })
}

fn large_datagrams_arrive(forwarder: Forwarder, fragments: &str) {
    let lab = lab(forwarder, 3);
    let config = echo_services(&lab, forwarder, fragments);
    let rig = Rig::new(lab, &config);
    for &vip in &rig.lab.options().vips {
        for _ in 0..10 {
            let target = SocketAddr::new(vip, PORT);
            let answer = udp::ask(&rig.client().namespace, target, &large(), LIMIT).unwrap();
            assert!(echoed(&answer, &large()), "{target}: {} bytes", answer.len());
        }
    }
    assert_eq!(rig.drops(), []);
}

#[test]
fn large_datagrams_follow_their_first_fragment() {
    for forwarder in [Forwarder::L2dsr, Forwarder::Gue, Forwarder::Nat] {
        large_datagrams_arrive(forwarder, "follow");
    }
}

#[test]
fn large_datagrams_arrive_by_the_source_address_alone() {
    for forwarder in [Forwarder::L2dsr, Forwarder::Ipip] {
        large_datagrams_arrive(forwarder, "hash3");
    }
}

/// A fragment that fills the client's wire does not fit the tunnel; the client learns it and cuts smaller ones.
#[test]
fn fragments_too_big_for_a_tunnel_get_smaller() {
    let lab = narrow(Forwarder::Ipip);
    let config = echo_services(&lab, Forwarder::Ipip, "follow");
    let rig = Rig::new(lab, &config);
    for &vip in &rig.lab.options().vips {
        let target = SocketAddr::new(vip, PORT);
        let deadline = Instant::now() + LIMIT;
        let ask = || udp::ask(&rig.client().namespace, target, &large(), LIMIT / 20);
        while !ask().is_ok_and(|answer| echoed(&answer, &large())) {
            assert!(Instant::now() < deadline, "{target}: {:?}", rig.drops());
        }
    }
    assert!(rig.count("too-big-answered") > 0);
}

/// The fragments of a UDP datagram from `from` to `to`, each a frame from the first client to the balancer.
fn fragments(rig: &Rig, from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<Vec<u8>> {
    const CUT: usize = 1_400;
    const ID: u32 = 77;
    let (udp, is_v4) = (17, to.is_ipv4());
    let whole = Frame::udp(&from.to_string(), &to.to_string())
        .data(data)
        .ip_bytes();
    let payload = &whole[if is_v4 { 20 } else { 40 }..];
    let last = payload.len().div_ceil(CUT) - 1;
    let cut = |(i, part): (usize, &[u8])| {
        let offset = (i * CUT / 8) as u16;
        let more = u16::from(i < last);
        let frame = if is_v4 {
            let word = offset | more << 13;
            raw(from, to, udp, part.to_vec()).label(ID).fragment(word)
        } else {
            // RFC 8200 section 4.5.
            let word = (offset << 3 | more).to_be_bytes();
            let header = [&[udp, 0], &word[..], &ID.to_be_bytes()].concat();
            raw(from, to, 44, [header, part.to_vec()].concat())
        };
        frame.macs(rig.lab.balancer.mac, rig.client().mac).bytes()
    };
    payload.chunks(CUT).enumerate().map(cut).collect()
}

fn raw(from: SocketAddr, to: SocketAddr, protocol: u8, bytes: Vec<u8>) -> Frame {
    let body = Body::Raw { protocol, bytes };
    let (from, to) = (from.ip().to_string(), to.ip().to_string());
    Frame {
        body,
        ..Frame::raw(&from, &to, protocol, &[])
    }
}

/// Sends the fragments in that order; the echo, if it comes within a tenth of the usual patience.
fn echo_of(rig: &Rig, vip: IpAddr, order: impl Fn(&mut Vec<Vec<u8>>)) -> Option<Vec<u8>> {
    let client = rig.client();
    let own = SocketAddr::new(client.address_like(vip), 0);
    let socket = client.namespace.run(|| UdpSocket::bind(own).unwrap()).unwrap();
    socket.set_read_timeout(Some(LIMIT / 10)).unwrap();
    let from = socket.local_addr().unwrap();
    let mut frames = fragments(rig, from, SocketAddr::new(vip, PORT), &large());
    order(&mut frames);
    for frame in frames {
        send_to(&rig.lab.balancer, &rig.lab.wire, &frame);
    }
    let mut buffer = vec![0; 2 * LARGE];
    let length = socket.recv(&mut buffer).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

#[test]
fn order_matters_only_to_those_who_follow() {
    for (mode, backwards) in [("follow", false), ("hash3", true), ("drop", false)] {
        let lab = lab(Forwarder::L2dsr, 3);
        let config = echo_services(&lab, Forwarder::L2dsr, mode);
        let rig = Rig::new(lab, &config);
        for &vip in &rig.lab.options().vips {
            let good = |answer: Option<Vec<u8>>| answer.is_some_and(|answer| echoed(&answer, &large()));
            let in_order = good(echo_of(&rig, vip, |_| ()));
            assert_eq!(in_order, mode != "drop", "{vip} {mode}: {:?}", rig.drops());
            let before = rig.count("fragment");
            let reversed = good(echo_of(&rig, vip, |frames| frames.reverse()));
            assert_eq!(reversed, backwards, "{vip} {mode}: {:?}", rig.drops());
            assert_eq!(
                rig.count("fragment") > before,
                !backwards,
                "{vip} {mode}: what is lost is counted"
            );
        }
    }
}
