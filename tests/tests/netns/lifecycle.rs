//! Start, reload and end of the agent.

use std::{
    net::{SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt,
};

use lb_api::view::{AttachMode, BackendState};
use lb_lab::{Agent, Forwarder, Lab, LabOptions, LbOptions, traffic::load::Load};
use nix::sys::signal::Signal;

use super::support::{
    LIMIT, LbRun, NO_CHECK, PORT, Rig, SILENCE, Service, backend_addresses, lab, patient_load, requests,
    rig::lb, server_for, shares, wait_until, xdp_on,
};

const EMPTY: &[&str] = &["--iface", "eth0"];

fn start(lab: &Lab) -> Agent {
    Agent::start(&lab.balancer, &LbOptions::new(lb(), None)).unwrap()
}

#[test]
fn second_agent_on_an_interface_is_refused() {
    let lab = lab(Forwarder::L2dsr, 0);
    let mut first = start(&lab);
    let programs = xdp_on(&lab.balancer.namespace, "eth0");
    let second = LbRun::start(&lab.balancer.namespace, EMPTY).wait();
    assert_eq!(second.code, Some(1), "{}", second.log);
    let holder = format!("lb (pid {})", first.process().id());
    assert!(
        second.log.contains("eth0") && second.log.contains(&holder),
        "{}",
        second.log
    );
    assert_eq!(
        xdp_on(&lab.balancer.namespace, "eth0"),
        programs,
        "the first one is still there"
    );
    first.services().unwrap();
}

#[test]
fn second_agent_on_a_socket_is_refused() {
    let lab = lab(Forwarder::L2dsr, 0);
    let first = start(&lab);
    let socket = first.socket();
    let arguments = [
        "--iface",
        "lo",
        "--mode",
        "generic",
        "--socket",
        socket.to_str().unwrap(),
    ];
    let second = LbRun::start(&lab.balancer.namespace, &arguments).wait();
    assert_eq!(second.code, Some(1), "{}", second.log);
    assert!(
        second.log.contains("another agent") && second.log.contains("lb.sock"),
        "{}",
        second.log
    );
    assert_eq!(xdp_on(&lab.balancer.namespace, "lo"), []);
    first.services().unwrap();
}

#[test]
fn foreign_program_is_neither_replaced_nor_concealed() {
    let mut lab = lab(Forwarder::L2dsr, 0);
    let balancer = lab.balancer.namespace.clone();
    lab.attach_pass(&balancer, "eth0").unwrap();
    let programs = xdp_on(&balancer, "eth0");
    for mode in ["native", "generic", "auto"] {
        let refused = LbRun::start(&balancer, &["--iface", "eth0", "--mode", mode]).wait();
        assert_eq!(refused.code, Some(1), "{mode}: {}", refused.log);
        let (name, id) = ("\"pass\"", format!("program id {}", programs[0].program_id));
        let holder = format!("(pid {})", std::process::id());
        for what in [name, &id, &holder, "eth0"] {
            assert!(
                refused.log.contains(what),
                "{mode}: no {what} in: {}",
                refused.log
            );
        }
    }
    assert_eq!(xdp_on(&balancer, "eth0"), programs);
}

#[test]
fn refused_interface_leaves_the_others_alone() {
    let mut lab = Lab::new(LabOptions {
        backends: 0,
        two_interfaces: true,
        ..LabOptions::new(Forwarder::L2dsr)
    })
    .unwrap();
    let balancer = lab.balancer.namespace.clone();
    lab.attach_pass(&balancer, "eth1").unwrap();
    let refused = LbRun::start(&balancer, &["--iface", "eth0,eth1"]).wait();
    assert_eq!(refused.code, Some(1), "{}", refused.log);
    assert_eq!(
        xdp_on(&balancer, "eth0"),
        [],
        "nothing stays where lb could attach"
    );

    let refused = LbRun::start(&balancer, &["--iface", "eth9", "--wait-iface", "false"]).wait();
    assert_eq!(refused.code, Some(1), "{}", refused.log);
    for name in ["eth9", "eth0", "eth1"] {
        assert!(refused.log.contains(name), "no {name} in: {}", refused.log);
    }
}

#[test]
fn every_end_of_an_ephemeral_agent_detaches() {
    let lab = lab(Forwarder::L2dsr, 0);
    let balancer = &lab.balancer.namespace;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        let options = LbOptions {
            arguments: vec!["--ephemeral".into()],
            ..LbOptions::new(lb(), None)
        };
        let mut agent = Agent::start(&lab.balancer, &options).unwrap();
        assert_eq!(xdp_on(balancer, "eth0").len(), 1);
        let socket = agent.socket();
        agent.process().signal(signal).unwrap();
        let status = agent.process().wait(LIMIT).unwrap();
        if signal == Signal::SIGKILL {
            assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
            // The kernel lets go of a dead process's links in its own time.
            wait_until("the program is gone", || xdp_on(balancer, "eth0").is_empty());
        } else {
            assert!(status.success(), "{signal}: {status}: {}", agent.log_end());
            assert_eq!(xdp_on(balancer, "eth0"), [], "{signal}");
            assert!(!socket.exists(), "{signal}");
        }
    }
}

/// A service whose three backends weigh what is given; 0 leaves a backend out.
fn weighted(lab: &Lab, weights: [u16; 3]) -> Service {
    let vip = lab.options().vips[0];
    let service = Service::new(Forwarder::L2dsr, &[vip]).key("check", NO_CHECK);
    let backends = backend_addresses(lab, vip).into_iter().zip(weights);
    backends
        .filter(|(_, weight)| *weight > 0)
        .fold(service, |service, (address, weight)| {
            service.backend_with(address, &format!(", weight = {weight}"))
        })
}

#[test]
fn reload_applies_the_difference() {
    let lab = lab(Forwarder::L2dsr, 3);
    let vip = lab.options().vips[0];
    let target = SocketAddr::new(vip, PORT);
    let addresses = backend_addresses(&lab, vip);
    let config = weighted(&lab, [1, 1, 0]);
    let mut rig = Rig::new(lab, &config);
    let mut sent = requests(rig.client(), target, 100);
    let generation = rig.agent.services().unwrap().generation;

    // Added by SIGHUP.
    rig.write_config(&weighted(&rig.lab, [1, 1, 1]));
    rig.agent.process().signal(Signal::SIGHUP).unwrap();
    wait_until("the third backend is there", || {
        rig.agent.services().unwrap().services[0].backends.len() == 3
    });
    rig.wait_until_all_up();
    assert_eq!(rig.agent.services().unwrap().generation, generation + 1);
    for (server, count) in requests(rig.client(), target, 100) {
        *sent.entry(server).or_default() += count;
    }

    // Removed by `lb reload`.
    rig.write_config(&weighted(&rig.lab, [1, 3, 0]));
    rig.lb(&["reload", "--now"]);
    let view = rig.agent.services().unwrap();
    assert_eq!(
        (view.generation, view.services[0].backends.len()),
        (generation + 2, 2)
    );
    assert_eq!(requests(rig.client(), target, 40).get("backend-3"), None);
    for (server, address) in ["backend-1", "backend-2"].iter().zip(&addresses) {
        let backend = rig.backend("web", *address);
        let at_least = sent[*server] as u64;
        assert!(
            backend.flows >= at_least,
            "{server} counted {} of {at_least} flows",
            backend.flows
        );
        assert_eq!(backend.state, BackendState::Up);
    }
    let flows: u64 = addresses[..2]
        .iter()
        .map(|&address| rig.backend("web", address).flows)
        .sum();
    assert_eq!(flows, sent["backend-1"] as u64 + sent["backend-2"] as u64 + 40);
}

/// Reloads of the same file, under traffic.
#[test]
fn reload_without_a_difference_disturbs_nobody() {
    let lab = lab(Forwarder::Ipip, 3);
    let vip = lab.options().vips[1];
    let config = Service::new(Forwarder::Ipip, &[vip]).backends(&backend_addresses(&lab, vip));
    let rig = Rig::new(lab, &config);
    let load = patient_load(SocketAddr::new(vip, PORT));
    let load = Load::start(&rig.client().namespace, load).unwrap();
    for round in 1..=5 {
        rig.lb(&["reload"]);
        wait_until("the load goes on", || load.records_from(0).len() > 100 * round);
    }
    assert_eq!(shares(&load.stop().unwrap()).len(), 3);
    assert_eq!(rig.drops(), []);
}

#[test]
fn bad_file_changes_nothing() {
    let lab = lab(Forwarder::L2dsr, 3);
    let good = weighted(&lab, [1, 1, 1]);
    let mut rig = Rig::new(lab, &good);
    let before = rig.lb(&["list", "--json"]);
    let listed =
        |rig: &Rig| -> serde_json::Value { serde_json::from_str(&rig.lb(&["list", "--json"])).unwrap() };
    let generation = listed(&rig)["generation"].clone();

    let text = good.to_string().replace("weight = 1", "weigth = 1");
    let line = 1 + text.lines().position(|line| line.contains("weigth")).unwrap();
    rig.write_config(&text);
    let error = rig.lb_refuses(2, &["reload"]);
    for what in ["lb.toml", &line.to_string(), "weigth", "weight"] {
        assert!(error.contains(what), "no {what} in: {error}");
    }
    assert_eq!(listed(&rig)["generation"], generation, "{before}");

    let text = good
        .to_string()
        .replace("protocol = \"tcp\"", "protocol = \"tpc\"");
    let line = 1 + text.lines().position(|line| line.contains("tpc")).unwrap();
    rig.write_config(&text);
    rig.agent.process().signal(Signal::SIGHUP).unwrap();
    let place = format!("lb.toml:{line}");
    wait_until("the log names the mistake", || {
        let log = rig.agent.log_end();
        log.contains(&place) && log.contains("protocol") && log.contains("nothing changed")
    });
    assert_eq!(listed(&rig)["generation"], generation);
    assert_eq!(
        requests(rig.client(), SocketAddr::new(rig.lab.options().vips[0], PORT), 60).len(),
        3
    );

    // Nor does an agent start with such a file.
    let file = rig.agent.config_file();
    let arguments = ["--iface", "lo", "--config", file.to_str().unwrap()];
    let refused = LbRun::start(&rig.lab.balancer.namespace, &arguments).wait();
    assert_eq!(refused.code, Some(2), "{}", refused.log);
    assert!(
        refused.log.contains(&place) && refused.log.contains("protocol"),
        "{}",
        refused.log
    );
}

#[test]
fn auto_mode_falls_back_where_the_driver_cannot() {
    let lab = lab(Forwarder::L2dsr, 0);
    let balancer = &lab.balancer.namespace;
    // Bridges have no native XDP.
    balancer
        .netlink(async |netlink| {
            netlink.add_bridge("br7").await?;
            netlink.set_up("br7").await
        })
        .unwrap();
    let refused = LbRun::start(balancer, &["--iface", "br7", "--mode", "native"]).wait();
    assert_eq!(refused.code, Some(1), "{}", refused.log);
    for what in ["br7", "driver bridge", "--mode auto"] {
        assert!(refused.log.contains(what), "no {what} in: {}", refused.log);
    }

    // One that can and one that cannot, side by side.
    let options = LbOptions {
        mode: "auto".into(),
        arguments: vec!["--iface".into(), "br7".into()],
        ..LbOptions::new(lb(), None)
    };
    let agent = Agent::start(&lab.balancer, &options).unwrap();
    let status = agent.status().unwrap();
    let modes: Vec<_> = status
        .interfaces
        .iter()
        .map(|interface| (interface.name.as_str(), interface.mode))
        .collect();
    assert_eq!(
        modes,
        [("eth0", AttachMode::Native), ("br7", AttachMode::Generic)]
    );
    let warned =
        |text: &str| text.contains("br7") && text.contains("driver bridge") && text.contains("generic");
    assert!(
        status.warnings.iter().any(|warning| warned(warning)),
        "{:?}",
        status.warnings
    );
    assert!(warned(&agent.log_end()), "{}", agent.log_end());
    assert_eq!(
        (xdp_on(balancer, "eth0").len(), xdp_on(balancer, "br7").len()),
        (1, 1)
    );
    agent.stop().unwrap();
    assert_eq!(
        (xdp_on(balancer, "eth0"), xdp_on(balancer, "br7")),
        (vec![], vec![])
    );
}

/// Clients come in by one interface, backends are behind the other.
fn two_interfaces_serve(forwarder: Forwarder) {
    let lab = Lab::new(LabOptions {
        backends: 2,
        two_interfaces: true,
        ..LabOptions::new(forwarder)
    })
    .unwrap();
    let mut config = String::new();
    for &vip in &lab.options().vips {
        let web = Service::new(forwarder, &[vip])
            .text("name", if vip.is_ipv4() { "web4" } else { "web6" })
            .backends(&backend_addresses(&lab, vip));
        config += &web.to_string();
    }
    let options = LbOptions {
        arguments: vec!["--iface".into(), "eth1".into()],
        ..LbOptions::new(lb(), Some(config))
    };
    let rig = Rig::with(lab, &options, &[PORT]);
    rig.wait_until_all_up();
    for &vip in &rig.lab.options().vips {
        let target = SocketAddr::new(vip, PORT);
        let shares = requests(rig.client(), target, 100);
        assert_eq!(shares.len(), 2, "{target}: {shares:?}");
    }
    assert!(rig.count("forwarded") > 0);
    assert_eq!(rig.count("returned") > 0, forwarder == Forwarder::Nat);
}

#[test]
fn l2dsr_goes_from_one_interface_to_another() {
    two_interfaces_serve(Forwarder::L2dsr);
}

#[test]
fn ipip_goes_from_one_interface_to_another() {
    two_interfaces_serve(Forwarder::Ipip);
}

#[test]
fn nat_goes_from_one_interface_to_another_and_back() {
    two_interfaces_serve(Forwarder::Nat);
}

#[test]
fn agent_without_a_configuration_is_filled_by_the_command_line() {
    let lab = lab(Forwarder::L2dsr, 2);
    let vip = lab.options().vips[0];
    let addresses = backend_addresses(&lab, vip);
    let rig = Rig::with(lab, &LbOptions::new(lb(), None), &[PORT]);
    let (vip_text, first, second) = (
        vip.to_string(),
        addresses[0].to_string(),
        addresses[1].to_string(),
    );
    rig.lb(&[
        "service",
        "add",
        "web",
        "--vip",
        &vip_text,
        "--protocol",
        "tcp",
        "--port",
        "80",
        "--forwarder",
        "l2dsr",
        "--backend",
        &first,
    ]);
    rig.wait_until_all_up();
    let target = SocketAddr::new(vip, PORT);
    assert_eq!(server_for(rig.client(), target), "backend-1");
    rig.lb(&["backend", "add", "web", &second]);
    rig.wait_until_all_up();
    assert_eq!(requests(rig.client(), target, 60).len(), 2);
    rig.lb(&["service", "remove", "web"]);
    let connect = || TcpStream::connect_timeout(&target, SILENCE).is_err();
    assert!(
        rig.client().namespace.run(connect).unwrap(),
        "nobody has the VIP any more"
    );
}
