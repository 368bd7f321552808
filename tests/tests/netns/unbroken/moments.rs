//! Ways that are unknown for a moment: the host would send on in the next, and so no connection may break.

use std::thread;

use lb_lab::{Forwarder, Netlink, traffic::echo::Echoes};

use super::{
    super::support::{SILENCE, ip},
    Plan, Stage, by_server,
    failures::account,
    wait_until,
};

/// The machine may be slow, so that a moment lasts. Only `fullnat` asks for the address.
const DATAPLANE: &str = "[dataplane]\nnext_hop_grace = \"1m\"\nfullnat_addresses = [\"10.0.0.1\"]\n";
/// Not as fast as to judge within a moment.
const CHECK: &str = r#"{ type = "tcp", port = 80 }"#;

/// What makes ways unknown, and what ends that: words for `ip` on the balancer.
struct Moment {
    begins: Vec<String>,
    ends: Vec<String>,
}

/// Addresses of one family.
struct Names {
    own: &'static str,
    /// The balancer's address in the network of the backends.
    network: &'static str,
    /// Further words for the route to it, as the kernel makes it.
    route: &'static str,
    backend: [&'static str; 2],
    client: &'static str,
    family: &'static str,
}

const V4: Names = Names {
    own: "10.0.0.1/24",
    network: "10.0.0.0/24",
    route: "proto kernel scope link src 10.0.0.1",
    backend: ["10.0.0.11", "10.0.0.12"],
    client: "10.1.0.11",
    family: "-4",
};
const V6: Names = Names {
    own: "fd00::1/64",
    network: "fd00::/64",
    route: "proto kernel metric 256",
    backend: ["fd00::b", "fd00::c"],
    client: "fd01::b",
    family: "-6",
};

impl Names {
    fn moments(&self) -> Vec<Moment> {
        let Self {
            own,
            network,
            route,
            backend: [first, second],
            client,
            family,
        } = self;
        let moment = |begins: Vec<String>, ends: Vec<String>| Moment { begins, ends };
        let ip = |words: String| format!("{family} {words}");
        let gone = ip(format!("neigh del {first} dev eth0"));
        let gone_too = ip(format!("neigh del {second} dev eth0"));
        let (unset, set) = (
            ip(format!("addr del {own} dev eth0")),
            ip(format!("addr add {own} dev eth0")),
        );
        let default = |verb| ip(format!("route {verb} default via {client} dev eth0"));
        vec![
            moment(vec![gone.clone()], vec![]),
            moment(vec![gone.clone(), gone_too.clone()], vec![]),
            moment(vec![gone, gone_too], vec![]),
            moment(
                vec![ip(format!("neigh change {first} dev eth0 nud failed"))],
                vec![],
            ),
            moment(vec![ip("neigh flush dev eth0".to_owned())], vec![]),
            moment(
                vec![ip(format!("route del {network} dev eth0"))],
                vec![ip(format!("route add {network} dev eth0 {route}"))],
            ),
            moment(vec![unset.clone()], vec![set.clone()]),
            moment(vec![default("add"), unset], vec![set, default("del")]),
        ]
    }
}

/// Waits until every connection that has not ended has echoed on.
fn echo_on(echoes: &Echoes) {
    let before = echoes.connections();
    wait_until("all connections have echoed on", || {
        let now = echoes.connections();
        let mut pairs = before.iter().zip(&now);
        pairs.all(|(before, now)| now.end.is_some() || now.echoes >= before.echoes + 3)
    });
}

fn nothing_breaks(stage: &Stage, moments: &[Moment]) {
    let balancer = stage.rig.lab.balancer.clone();
    let since = || {
        let of = |address| stage.rig.backend("web", address).since;
        stage
            .addresses
            .iter()
            .map(|&address| of(address))
            .collect::<Vec<_>>()
    };
    let (echoes, before) = (stage.hold(90), since());
    let pull = |out: bool| {
        let port = &balancer.port;
        let pull = async |netlink: &Netlink| match out {
            true => netlink.set_down(port).await,
            false => netlink.set_up(port).await,
        };
        stage.rig.lab.wire.netlink(pull).unwrap();
    };
    for Moment { begins, ends } in moments {
        begins.iter().for_each(|words| ip(&balancer.namespace, words));
        thread::sleep(SILENCE);
        ends.iter().for_each(|words| ip(&balancer.namespace, words));
        echo_on(&echoes);
    }
    pull(true);
    thread::sleep(SILENCE);
    pull(false);
    echo_on(&echoes);
    let connections = echoes.stop().unwrap();
    println!("{}", account(&connections, &[]));
    assert_eq!(by_server(&connections).len(), 3, "all backends have some");
    assert_eq!(since(), before, "no backend was anything but up");
}

fn stage(forwarder: Forwarder, v6: bool) -> Stage {
    Stage::new(Plan {
        v6,
        keys: vec![("check", CHECK.to_owned())],
        dataplane: DATAPLANE,
        waits: true,
        ..Plan::new(forwarder, 3)
    })
}

#[test]
fn l2dsr_flows_live_through_moments_without_a_way() {
    nothing_breaks(&stage(Forwarder::L2dsr, false), &V4.moments());
}

#[test]
fn l2dsr_flows_of_ipv6_live_through_moments_without_a_way() {
    nothing_breaks(&stage(Forwarder::L2dsr, true), &V6.moments());
}

#[test]
fn fullnat_flows_live_through_moments_without_a_way() {
    nothing_breaks(&stage(Forwarder::Fullnat, false), &V4.moments());
}

#[test]
fn flows_through_a_gateway_live_through_moments_without_it() {
    let stage = stage(Forwarder::Ipip, false);
    let lab = &stage.rig.lab;
    lab.backends[1]
        .namespace
        .set_sysctls(&[("net/ipv4/ip_forward", "1")])
        .unwrap();
    let [first, second] = V4.backend;
    let route = |verb| format!("-4 route {verb} {first}/32 via {second} dev eth0");
    ip(&lab.balancer.namespace, &route("add"));
    let moment = |begins: String, ends: Option<String>| Moment {
        begins: vec![begins],
        ends: ends.into_iter().collect(),
    };
    let moments = [
        moment(format!("-4 neigh del {second} dev eth0"), None),
        moment(route("del"), Some(route("add"))),
        moment(
            format!("-4 route replace unreachable {first}/32"),
            Some(route("replace")),
        ),
    ];
    nothing_breaks(&stage, &moments);
}
