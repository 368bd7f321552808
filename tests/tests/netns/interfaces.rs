//! Interfaces that go and come back, come late, or lose the program: it is told, and they are served again.

use std::{
    net::SocketAddr,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use lb_api::view::{DataplaneOrigin, StatusView};
use lb_core::plan::Capacity;
use lb_lab::{Agent, Forwarder, LbOptions, Namespace, detach_pinned_link};
use lb_userspace::dataplane::{Dataplane, Mode, Settings};
use lb_userspace::netlink::find_interface;

use super::support::{
    HeldConnections, LbRun, PORT, Rig, Service, backend_addresses, lab, requests, rig::lb, serving,
    wait_until, xdp_on,
};

/// Connections that are open while the program is away.
const HELD: usize = 50;
/// The exit code of `lb status` where something is not served.
const OUTAGE: i32 = 6;

/// Asks over all connections again; each has to be answered as `before`.
fn none_is_broken(held: &mut HeldConnections, before: &[Result<String, String>]) {
    let after = held.ask();
    let broken = after.iter().zip(before).filter(|(after, before)| after != before);
    assert_eq!(broken.count(), 0, "of {HELD} connections: {after:?}");
}

/// A program of somebody else on an interface, until it is told to go.
struct Foreign(mpsc::Sender<()>, JoinHandle<()>);

impl Foreign {
    /// Takes the place of the program that is there by the link pinned at `path`.
    fn instead_of(namespace: &Namespace, interface: &str, path: &std::path::Path) -> Self {
        let (go, gone) = mpsc::channel();
        let (there, is_there) = mpsc::channel();
        let (namespace, interface, path) = (namespace.clone(), interface.to_owned(), path.to_owned());
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let capacity = Capacity {
                services: 16,
                targets: 64,
                slots: 8192,
                flows: 4096,
                nat_flows: 4096,
            };
            let mut dataplane = Dataplane::load(&capacity, 1, Settings::default()).unwrap();
            wait_until("the interface is free for a moment", || {
                // The agent may be faster; then it is done again.
                if path.exists() {
                    let _ = detach_pinned_link(&path);
                }
                let found = runtime.block_on(find_interface(&interface)).unwrap();
                dataplane.attach([found], Mode::Native).is_ok()
            });
            there.send(()).unwrap();
            let _ = gone.recv();
        };
        let thread = thread::spawn(move || namespace.run(body).unwrap());
        is_there.recv().unwrap();
        Self(go, thread)
    }

    fn go(self) {
        self.0.send(()).unwrap();
        self.1.join().unwrap();
    }
}

fn link_of(rig: &Rig, status: &StatusView) -> std::path::PathBuf {
    let index = status.interfaces[0].index.to_string();
    rig.agent.pins().pin_dir().join("links").join(index)
}

/// Waits until status tells of an outage, and checks that everything else does, too.
fn outage_is_told(rig: &Rig, target: SocketAddr, words: &[&str]) {
    wait_until("the outage is told", || {
        let outages = rig.agent.status().unwrap().outages;
        let is_meant = |reason: &str| words.iter().all(|word| reason.contains(word));
        outages.iter().any(|outage| is_meant(&outage.reason))
    });
    let status = rig.agent.cli(&["status", "--json"]).unwrap();
    assert_eq!(status.status.code(), Some(OUTAGE));
    let view: StatusView = serde_json::from_slice(&status.stdout).unwrap();
    assert!(view.interfaces.is_empty(), "{:?}", view.interfaces);
    let [outage] = view.outages.as_slice() else {
        panic!("{:?}", view.outages)
    };
    let list = rig.lb(&["list"]);
    let text = String::from_utf8(rig.agent.cli(&["status"]).unwrap().stdout).unwrap();
    let asked = format!("{}:40000", rig.client().address_like(target.ip()));
    let refused = rig.lb_refuses(1, &["explain", "tcp", &asked, &target.to_string()]);
    for word in words {
        assert!(outage.reason.contains(word), "no {word} in {outage:?}");
        for said in [&list, &text, &refused] {
            assert!(
                said.contains("eth0") && said.contains(word),
                "no {word} in: {said}"
            );
        }
    }
    let log = rig.agent.log_end();
    assert!(log.contains("nothing is balanced that comes by eth0"), "{log}");
}

/// Waits until the program is back, and sends requests: none is lost.
fn is_served_again(rig: &Rig, target: SocketAddr, name: &str) {
    wait_until("the outage is over", || {
        rig.agent.status().unwrap().outages.is_empty()
    });
    let status = rig.agent.status().unwrap();
    assert_eq!(status.interfaces[0].name, name);
    assert_eq!(xdp_on(&rig.lab.balancer.namespace, name).len(), 1);
    assert_eq!(rig.agent.cli(&["status"]).unwrap().status.code(), Some(0));
    assert!(!rig.lb(&["list"]).contains("OUTAGE"));
    assert!(link_of(rig, &status).exists());
    rig.wait_until_all_up();
    assert_eq!(requests(rig.client(), target, 60).len(), 2);
    assert_eq!(rig.explain_tcp(40_000, target).reason, "forwarded");
}

#[test]
fn a_detached_program_is_attached_again_and_no_connection_breaks() {
    let (mut rig, target) = serving();
    let mut held = HeldConnections::open(rig.client(), target, HELD);
    let before = held.ask();
    assert!(before.iter().all(Result::is_ok), "{before:?}");
    let status = rig.agent.status().unwrap();
    let link = link_of(&rig, &status);
    detach_pinned_link(&link).unwrap();
    wait_until("there is another link", || {
        let now = rig.agent.status().unwrap();
        let link = now.interfaces.first();
        link.is_some_and(|link| link.link_id != status.interfaces[0].link_id)
    });
    none_is_broken(&mut held, &before);
    is_served_again(&rig, target, "eth0");

    // Somebody takes the place.
    let foreign = Foreign::instead_of(&rig.lab.balancer.namespace, "eth0", &link);
    outage_is_told(&rig, target, &["has an XDP program already"]);
    foreign.go();
    is_served_again(&rig, target, "eth0");
    none_is_broken(&mut held, &before);

    // What was attached again outlives the agent like what was attached first.
    rig.agent.kill().unwrap();
    assert_eq!(requests(rig.client(), target, 60).len(), 2);
    rig.agent.start_again().unwrap();
    assert_eq!(rig.agent.status().unwrap().origin, DataplaneOrigin::Adopted);
    is_served_again(&rig, target, "eth0");
}

#[test]
fn an_interface_that_comes_back_is_served_again() {
    let (mut rig, target) = serving();
    rig.lab.unplug_balancer().unwrap();
    outage_is_told(&rig, target, &["there is no interface eth0"]);
    rig.lab.replug_balancer("eth0").unwrap();
    is_served_again(&rig, target, "eth0");

    // By another name.
    rig.lab.unplug_balancer().unwrap();
    outage_is_told(&rig, target, &["there is no interface eth0"]);
    rig.lab.replug_balancer("wan0").unwrap();
    is_served_again(&rig, target, "wan0");
    let log = rig.agent.log_end();
    assert!(log.contains("eth0 (which is called wan0 now)"), "{log}");

    // An agent that starts meanwhile waits for it.
    rig.agent.kill().unwrap();
    rig.lab.unplug_balancer().unwrap();
    rig.agent.start_again().unwrap();
    outage_is_told(&rig, target, &["there is no interface \"eth0\" here"]);
    rig.lab.replug_balancer("eth0").unwrap();
    is_served_again(&rig, target, "eth0");
}

/// It keeps its index and the program with it, and comes back without addresses.
#[test]
fn an_interface_that_was_in_another_namespace_is_served_again() {
    let (rig, target) = serving();
    let other = Namespace::new("other").unwrap();
    let balancer = rig.lab.balancer.namespace.clone();
    balancer
        .netlink(async |netlink| netlink.move_to("eth0", &other, "eth0").await)
        .unwrap();
    outage_is_told(&rig, target, &["there is no interface eth0"]);
    assert_eq!(xdp_on(&other, "eth0"), [], "it is not ours there");
    other
        .netlink(async |netlink| netlink.move_to("eth0", &balancer, "eth0").await)
        .unwrap();
    rig.lab.readdress_balancer().unwrap();
    is_served_again(&rig, target, "eth0");
}

#[test]
fn a_late_interface_is_waited_for_and_keeps_the_others_from_nothing() {
    let lab = lab(Forwarder::L2dsr, 2);
    let vip = lab.options().vips[0];
    let web = Service::new(Forwarder::L2dsr, &[vip]).backends(&backend_addresses(&lab, vip));
    let options = LbOptions {
        arguments: vec!["--iface".into(), "late0".into()],
        ..LbOptions::new(lb(), Some(web.to_string()))
    };
    let rig = Rig::with(lab, &options, &[PORT]);
    rig.wait_until_all_up();
    let outages = rig.agent.status().unwrap().outages;
    assert_eq!(outages[0].what, "interface late0");
    assert_eq!(requests(rig.client(), SocketAddr::new(vip, PORT), 60).len(), 2);
    assert_eq!(
        rig.explain_tcp(40_000, SocketAddr::new(vip, PORT)).outages,
        outages
    );

    let balancer = &rig.lab.balancer.namespace;
    balancer
        .netlink(async |netlink| netlink.add_veth("late0", "peer0").await)
        .unwrap();
    wait_until("it is served", || rig.agent.status().unwrap().outages.is_empty());
    assert_eq!(xdp_on(balancer, "late0").len(), 1);
    assert_eq!(requests(rig.client(), SocketAddr::new(vip, PORT), 60).len(), 2);
}

fn rename(namespace: &Namespace, from: &str, to: &str) {
    namespace
        .netlink(async |netlink| {
            netlink.set_down(from).await?;
            netlink.rename(from, to).await?;
            netlink.set_up(to).await?;
            netlink.wait_until_up(to).await
        })
        .unwrap();
}

/// What an earlier agent attached to is left as it is while an interface is missing: it may be that one, renamed.
#[test]
fn a_renamed_interface_stays_served_until_all_are_there() {
    let (mut rig, target) = serving();
    let balancer = rig.lab.balancer.namespace.clone();
    rig.agent.kill().unwrap();
    rig.agent.options().arguments = vec!["--iface".into(), "late0".into()];
    rename(&balancer, "eth0", "wan0");
    rig.agent.start_again().unwrap();
    assert_eq!(rig.agent.status().unwrap().outages.len(), 2);
    assert_eq!(xdp_on(&balancer, "wan0").len(), 1);
    assert_eq!(requests(rig.client(), target, 60).len(), 2);
    rename(&balancer, "wan0", "eth0");
    wait_until("it is known again", || {
        rig.agent.status().unwrap().outages.len() == 1
    });
    assert_eq!(requests(rig.client(), target, 60).len(), 2);
}

#[test]
fn an_interface_is_not_waited_for_where_that_is_not_wanted() {
    let lab = lab(Forwarder::L2dsr, 0);
    let arguments = ["--iface", "eth0,eth9", "--wait-iface", "false"];
    let refused = LbRun::start(&lab.balancer.namespace, &arguments).wait();
    assert_eq!(refused.code, Some(1), "{}", refused.log);
    assert!(refused.log.contains("eth9"), "{}", refused.log);
    assert_eq!(xdp_on(&lab.balancer.namespace, "eth0"), []);
    let options = LbOptions {
        arguments: vec!["--iface".into(), "eth9".into()],
        ..LbOptions::new(lb(), None)
    };
    Agent::start(&lab.balancer, &options).unwrap();
}

#[test]
fn generic_mode_is_warned_of_as_long_as_packets_are_merged() {
    let lab = lab(Forwarder::L2dsr, 1);
    let options = LbOptions {
        mode: "generic".into(),
        ..LbOptions::new(lb(), None)
    };
    let rig = Rig::with(lab, &options, &[]);
    let balancer = rig.lab.balancer.namespace.clone();
    let warned = || {
        let warnings = rig.agent.status().unwrap().warnings;
        warnings.iter().any(|warning| warning.contains("merges packets"))
    };
    assert!(!warned(), "nothing is merged in the lab");
    balancer.merge_received("eth0", true).unwrap();
    assert!(warned());
    balancer.merge_received("eth0", false).unwrap();
    assert!(!warned(), "a warning goes with its cause");
}
