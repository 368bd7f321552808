//! What `lb explain` says is what happens.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};
use lb_api::{
    packet::{ExplainRequest, from_hex, to_hex},
    view::{ExplainView, StatsView},
};
use lb_lab::{Forwarder, Host, Lab};

use super::support::{
    Capture, FAST_CHECK, NO_CHECK, PORT, Rig, Service, backend_addresses, lab, send_to, wait_until,
};

/// A packet, and the reason that it should leave for.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    reason: &'static str,
}

/// TCP and UDP on port 80, and a TCP service on port 81 that nobody can serve; all on the VIPs of both families.
fn config(lab: &Lab, forwarder: Forwarder) -> String {
    let mut config = String::new();
    for &vip in &lab.options().vips {
        let name = |name: &str| format!("{name}{}", if vip.is_ipv4() { 4 } else { 6 });
        let web = Service::new(forwarder, &[vip])
            .text("name", &name("web"))
            .key("check", NO_CHECK)
            .backends(&backend_addresses(lab, vip));
        let echo = web.clone().text("name", &name("echo")).text("protocol", "udp");
        let empty = Service::new(forwarder, &[vip])
            .text("name", &name("empty"))
            .key("port", 81)
            .key("check", FAST_CHECK);
        config += &format!("{web}{echo}{empty}");
    }
    config
}

/// Nobody listens on the backends: a SYN's answer would make the client's kernel send more to the VIP.
fn silent_rig(lab: Lab, forwarder: Forwarder) -> Rig {
    let config = config(&lab, forwarder);
    let rig = Rig::on_ports(lab, &config, &[]);
    rig.wait_until_all_up();
    rig
}

/// Packets described in the words of the command line.
fn in_words(client: &Host, vip: IpAddr) -> Vec<(Vec<String>, &'static str)> {
    let at = |address: IpAddr, port: u16| std::net::SocketAddr::new(address, port).to_string();
    let from = client.address_like(vip);
    let own: IpAddr = if vip.is_ipv4() { "10.1.0.1" } else { "fd01::1" }
        .parse()
        .unwrap();
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    vec![
        (words(&["tcp", &at(from, 1025), &at(vip, 80)]), "forwarded"),
        (
            words(&[
                "tcp",
                &at(from, 40_000),
                &at(vip, 80),
                "--flags",
                "PA",
                "--size",
                "1500",
            ]),
            "forwarded",
        ),
        (words(&["udp", &at(from, 53), &at(vip, 80)]), "forwarded"),
        (
            words(&["udp", &at(from, 9), &at(vip, 80), "--size", "999"]),
            "forwarded",
        ),
        (
            words(&["tcp", &at(from, 1025), &at(vip, 81), "--flags", "S"]),
            "no-backend",
        ),
        (words(&["tcp", &at(from, 1025), &at(vip, 82)]), "no-service"),
        (words(&["udp", &at(from, 1025), &at(own, 80)]), "no-service"),
        (
            words(&["icmp", &from.to_string(), &vip.to_string()]),
            "echo-reply",
        ),
        (
            words(&["icmp", &from.to_string(), &vip.to_string(), "--size", "1001"]),
            "echo-reply",
        ),
        (
            words(&["icmp", &from.to_string(), &own.to_string()]),
            "no-service",
        ),
    ]
}

/// Packets that the command line has no words for.
fn in_bytes(client: &Host, balancer: &Host, vip: IpAddr) -> Vec<Case> {
    let ethernet = || PacketBuilder::ethernet2(client.mac, balancer.mac);
    let (syn, mut oddities) = match (client.address_like(vip), vip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = Ipv4Header::new(20, 64, IpNumber::TCP, from.octets(), to.octets()).unwrap();
            let ip =
                |header: Ipv4Header| ethernet().ip(etherparse::IpHeaders::Ipv4(header, Default::default()));
            let tcp = |header: Ipv4Header| written(ip(header).tcp(1025, PORT, 1, 1000).syn());
            let syn = tcp(header.clone());
            let mut odd = header.clone();
            (odd.dont_fragment, odd.more_fragments) = (false, true);
            let mut stray = odd.clone();
            stray.fragment_offset = 100.try_into().unwrap();
            stray.more_fragments = false;
            let mut last_hop = header.clone();
            last_hop.time_to_live = 1;
            let mut short_header = syn.clone();
            short_header[14] = 0x44;
            let oddities = vec![
                ("fragment of unknown ports", tcp(stray), "fragment"),
                ("first fragment of an odd length", tcp(odd), "bad-fragment"),
                ("last hop", tcp(last_hop), "ttl-answered"),
                ("header of 16 bytes", short_header, "bad-header"),
                (
                    "EtherType of ARP",
                    frame_of_type(client, balancer, 0x0806),
                    "not-ip",
                ),
            ];
            (syn, oddities)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                hop_limit: 64,
                next_header: IpNumber::TCP,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            let ip =
                |header: Ipv6Header| ethernet().ip(etherparse::IpHeaders::Ipv6(header, Default::default()));
            let tcp = |header: Ipv6Header| written(ip(header).tcp(1025, PORT, 1, 1000).syn());
            let syn = tcp(header.clone());
            let last_hop = Ipv6Header {
                hop_limit: 1,
                ..header.clone()
            };
            let with_extension = |number: u8, header: [u8; 8]| {
                let mut frame = syn.clone();
                frame[20] = number;
                frame.splice(54..54, header);
                let payload = u16::try_from(frame.len() - 54).unwrap();
                frame[18..20].copy_from_slice(&payload.to_be_bytes());
                frame
            };
            let oddities = vec![
                ("last hop", tcp(last_hop), "ttl-answered"),
                // Extension headers that say that TCP follows.
                (
                    "fragment of unknown ports",
                    with_extension(44, [6, 0, 3, 0x20, 0, 0, 0, 7]),
                    "fragment",
                ),
                (
                    "first fragment of an odd length",
                    with_extension(44, [6, 0, 0, 1, 0, 0, 0, 7]),
                    "bad-fragment",
                ),
                (
                    "destination options",
                    with_extension(60, [6, 0, 1, 4, 0, 0, 0, 0]),
                    "forwarded",
                ),
                (
                    "EtherType of MPLS",
                    frame_of_type(client, balancer, 0x8847),
                    "not-ip",
                ),
            ];
            (syn, oddities)
        }
        _ => unreachable!("both are of one family"),
    };
    oddities.push(("no TCP header", syn[..syn.len() - 19].to_vec(), "truncated"));
    oddities.push(("SYN with a payload", syn, "forwarded"));
    let case = |(name, frame, reason)| Case { name, frame, reason };
    oddities.into_iter().map(case).collect()
}

fn written(packet: etherparse::PacketBuilderStep<etherparse::TcpHeader>) -> Vec<u8> {
    let mut frame = Vec::new();
    packet.write(&mut frame, b"payload").unwrap();
    frame
}

fn frame_of_type(from: &Host, to: &Host, ether_type: u16) -> Vec<u8> {
    [&to.mac[..], &from.mac, &ether_type.to_be_bytes(), &[0; 46]].concat()
}

fn explain_hex(rig: &Rig, frame: &[u8]) -> ExplainView {
    serde_json::from_str(&rig.lb(&["explain", "--hex", &to_hex(frame), "--json"])).unwrap()
}

/// A case from a client's words: `lb explain` must say the same of them and of the bytes that the wire delivers.
fn case_from_words(rig: &Rig, words: &[String], reason: &'static str) -> Case {
    let mut arguments = vec!["explain"];
    arguments.extend(words.iter().map(String::as_str));
    arguments.push("--json");
    let said: ExplainView = serde_json::from_str(&rig.lb(&arguments)).unwrap();
    let mut frame = from_hex(&said.in_hex).unwrap();
    frame[..6].copy_from_slice(&rig.lab.balancer.mac);
    frame[6..12].copy_from_slice(&rig.client().mac);
    let as_bytes = explain_hex(rig, &frame);
    let verdict = |view: &ExplainView| {
        let ExplainView {
            action,
            reason,
            service,
            backend,
            slot,
            ..
        } = view.clone();
        (action, reason, service, backend, slot)
    };
    assert_eq!(verdict(&said), verdict(&as_bytes), "{words:?}");
    let name = words.join(" ").leak();
    Case { name, frame, reason }
}

fn cases(rig: &Rig) -> Vec<Case> {
    let mut cases = Vec::new();
    for &vip in &rig.lab.options().vips {
        for (words, reason) in in_words(rig.client(), vip) {
            cases.push(case_from_words(rig, &words, reason));
        }
        cases.extend(in_bytes(rig.client(), &rig.lab.balancer, vip));
    }
    cases
}

/// Explains a packet, sends it, and compares.
fn happens_as_explained(rig: &Rig, case: &Case) {
    let Case { name, frame, reason } = case;
    let explained = explain_hex(rig, frame);
    assert_eq!(explained.reason, *reason, "{name}: {explained:?}");
    let capture = Capture::start(&rig.lab.wire, &rig.lab.balancer.port);
    let before = rig.count(reason);
    send_to(&rig.lab.balancer, &rig.lab.wire, frame);
    wait_until(&format!("{name} is counted as {reason}"), || {
        rig.count(reason) > before
    });
    if explained.action != "pass" {
        // Nobody else sends such packets; what passes, the hosts' own packets do too.
        assert_eq!(rig.count(reason), before + 1, "{name}");
    }
    if let Some(out) = &explained.out_hex {
        let seen = capture.wait_for(&from_hex(out).unwrap());
        let seen = seen.map_err(|others| others.iter().map(|frame| to_hex(frame)).collect::<Vec<_>>());
        assert!(seen.is_ok(), "{name}: expected {out} on the wire, saw {seen:#?}");
    }
    if *reason == "forwarded" {
        let backend: IpAddr = explained.backend.unwrap().parse().unwrap();
        assert!(
            backend_addresses(&rig.lab, backend).contains(&backend),
            "{name}: {backend}"
        );
    }
}

fn explains_what_happens(forwarder: Forwarder) {
    let lab = lab(forwarder, 3);
    let rig = silent_rig(lab, forwarder);
    for case in cases(&rig) {
        happens_as_explained(&rig, &case);
    }
}

#[test]
fn l2dsr_happens_as_explained() {
    explains_what_happens(Forwarder::L2dsr);
}

#[test]
fn ipip_happens_as_explained() {
    explains_what_happens(Forwarder::Ipip);
}

#[test]
fn nat_happens_as_explained() {
    explains_what_happens(Forwarder::Nat);
}

#[test]
fn explaining_leaves_no_trace() {
    const ROUNDS: u64 = 20;
    let lab = lab(Forwarder::Ipip, 3);
    let rig = silent_rig(lab, Forwarder::Ipip);
    let cases = cases(&rig);
    let listed = |rig: &Rig| {
        let mut view = rig.agent.services().unwrap();
        for backend in view.services.iter_mut().flat_map(|service| &mut service.backends) {
            // Time alone changes these.
            (
                backend.packets_per_second,
                backend.bits_per_second,
                backend.flows_per_second,
            ) = (0.0, 0.0, 0.0);
        }
        view
    };
    let (list, stats) = (listed(&rig), rig.agent.stats().unwrap());
    for _ in 0..ROUNDS {
        for case in &cases {
            let question = ExplainRequest {
                frame_hex: Some(to_hex(&case.frame)),
                ..ExplainRequest::default()
            };
            assert_eq!(
                rig.agent.explain(&question).unwrap().reason,
                case.reason,
                "{}",
                case.name
            );
        }
    }
    assert_eq!(listed(&rig), list);
    let StatsView {
        generation,
        reasons,
        services,
        totals,
    } = rig.agent.stats().unwrap();
    assert_eq!(
        (generation, services, totals),
        (stats.generation, stats.services, stats.totals)
    );
    for (now, before) in reasons.iter().zip(&stats.reasons) {
        let explained = ROUNDS * cases.iter().filter(|case| case.reason == now.name).count() as u64;
        let counted = now.packets - before.packets;
        // The hosts' own packets (neighbour discovery) pass meanwhile; they are few.
        let own = if now.action == "pass" { explained / 2 } else { 0 };
        assert!(
            counted <= own,
            "{}: {counted} counted, {explained} explained",
            now.name
        );
    }
}
