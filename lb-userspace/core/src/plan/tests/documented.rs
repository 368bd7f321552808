//! The table of forwarders in the documentation, held against what is accepted and what is put in front of packets.

use std::net::IpAddr;

use super::{cases::service, steps::World, *};
use crate::desired::{Forwarder, Protocol, Service, Services};
use crate::plan::tables::target::{Way, encode};

const DOCUMENT: &str = include_str!("../../../../../docs/forwarders.md");
const MTU: u32 = 1500;

/// The cells of a forwarder's row, behind its name.
fn row(forwarder: Forwarder) -> Vec<&'static str> {
    let (_, section) = DOCUMENT
        .split_once("## What each one can carry")
        .expect("the section");
    let name = format!("| `{forwarder}` | ");
    let line = section.lines().find_map(|line| line.strip_prefix(&name));
    let line = line.unwrap_or_else(|| panic!("no row for {forwarder}"));
    line.trim_end_matches(" |").split(" | ").collect()
}

fn accepted(service: Service) -> bool {
    Services::new(vec![service]).is_ok()
}

fn yes(accepted: bool) -> &'static str {
    if accepted { "yes" } else { "no" }
}

/// Bytes in front of a packet on its way to `backend`.
fn in_front(forwarder: Forwarder, backend: &str) -> u32 {
    let vip = if backend.contains(':') {
        "2001:db8::1"
    } else {
        "10.0.0.1"
    };
    let service = service("a", vip, "80", forwarder, &[backend]);
    let hop = NextHop {
        interface: 2,
        destination_mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        mtu: MTU,
        on_link: true,
        tags: Default::default(),
    };
    let vip: IpAddr = vip.parse().unwrap();
    let way = Way::Hop(hop);
    let entry = encode(
        &service,
        Some(vip),
        &service.backends[0],
        &way,
        World::default().tunnel_sources(),
    );
    MTU - u32::from(entry.target.max_len)
}

#[test]
fn the_table_of_forwarders_is_true() {
    for word in Forwarder::WORDS {
        let forwarder: Forwarder = word.parse().unwrap();
        let with = |vip: &str, port: &str, backend: &str| service("a", vip, port, forwarder, &[backend]);
        let across = accepted(with("10.0.0.1", "80", "2001:db8::5"));
        let translated = accepted(with("10.0.0.1", "80", "10.0.0.5:81"));
        let wide = accepted(with("10.0.0.0/30", "80-90", "10.0.0.5"));
        let sctp = |backend| Service {
            protocol: Protocol::Sctp,
            ..with("10.0.0.1", "80", backend)
        };
        let sctp = match (accepted(sctp("10.0.0.5")), accepted(sctp("10.0.0.5:81"))) {
            (true, false) if translated => "yes, without another port",
            (accepted, _) => yes(accepted),
        };
        let expected = [yes(across), yes(translated), yes(wide), sctp];
        let found = row(forwarder);
        assert_eq!(found[..4], expected, "{forwarder}");
        if forwarder != Forwarder::Local {
            let bytes = ["10.0.0.5", "2001:db8::5"].map(|backend| in_front(forwarder, backend).to_string());
            assert_eq!(found[4..], bytes, "{forwarder}");
        }
    }
}
