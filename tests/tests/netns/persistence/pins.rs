//! Where pins are, whose they are, and what is done about those that are left over.

use std::fs;

use lb_api::view::DataplaneOrigin;
use lb_core::plan::Capacity;
use lb_lab::{Agent, BpfFs, Forwarder, Lab, LabOptions, LbOptions};
use lb_userspace::dataplane::{Dataplane, DataplaneSource, PinDir, Settings};

use super::{
    super::support::{LIMIT, requests, rig::lb, wait_until, xdp_on},
    idle, names, serving, stop_view,
};

/// What lb 0.1 left when it was killed: pins beside one another, and nothing that runs by them.
const LAYOUT_1: &str = include_str!("../../../fixtures/abi-1.txt");

#[test]
fn pins_have_their_places_and_only_root_sees_them() {
    use std::os::unix::fs::PermissionsExt;

    let (_lab, agent) = idle();
    let pins = agent.pins().pin_dir();
    assert_eq!(names(&pins), ["links", "maps", "program"]);
    let maps = names(&pins.join("maps"));
    for name in [
        "COUNTS",
        "EGRESS",
        "META",
        "REASONS",
        "ROUTES",
        "SERVICES4",
        "SERVICES6",
        "SLOTS",
        "TARGETS",
        "data-control",
    ] {
        assert!(maps.iter().any(|found| found == name), "no {name} in {maps:?}");
    }
    assert_eq!(names(&pins.join("links")).len(), 1);
    for path in [
        &pins,
        &pins.join("maps"),
        &pins.join("links"),
        &pins.join("maps/META"),
    ] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}

#[test]
fn links_follow_the_interfaces_that_are_named_and_there() {
    let lab = Lab::new(LabOptions {
        backends: 0,
        two_interfaces: true,
        ..LabOptions::new(Forwarder::L2dsr)
    })
    .unwrap();
    let balancer = lab.balancer.namespace.clone();
    balancer
        .netlink(async |netlink| {
            netlink.add_bridge("br7").await?;
            netlink.set_up("br7").await
        })
        .unwrap();
    let options = LbOptions {
        mode: "auto".into(),
        arguments: vec!["--iface".into(), "br7,eth1".into()],
        ..LbOptions::new(lb(), None)
    };
    let mut agent = Agent::start(&lab.balancer, &options).unwrap();
    let links = agent.pins().pin_dir().join("links");
    assert_eq!(names(&links).len(), 3);
    let of_eth0 = agent.status().unwrap().interfaces[0].link_id;
    agent.kill().unwrap();

    // eth1 is not named any more, br7 is gone.
    balancer
        .netlink(async |netlink| netlink.remove("br7").await)
        .unwrap();
    agent.options().arguments.clear();
    agent.start_again().unwrap();
    assert_eq!(xdp_on(&balancer, "eth1"), []);
    assert_eq!(names(&links).len(), 1);
    assert_eq!(agent.status().unwrap().interfaces[0].link_id, of_eth0);
    for what in ["detached from eth1", "an interface that is gone"] {
        assert!(
            agent.log_end().contains(what),
            "no {what} in: {}",
            agent.log_end()
        );
    }
    agent.kill().unwrap();

    // eth1 is named again.
    agent.options().arguments = vec!["--iface".into(), "eth1".into()];
    agent.start_again().unwrap();
    assert_eq!(xdp_on(&balancer, "eth1").len(), 1);
    assert_eq!(names(&links).len(), 2);
    assert_eq!(agent.status().unwrap().interfaces[0].link_id, of_eth0);
}

#[test]
fn pins_of_lb_0_1_make_room() {
    let (_lab, mut agent) = idle();
    let pins = agent.pins().pin_dir();
    stop_view(&agent.cli(&["stop", "--detach", "--json"]).unwrap());
    lb_fixture::lay_out(LAYOUT_1, &pins).unwrap();
    assert_eq!(names(&pins).len(), 12);
    agent.start_again().unwrap();
    assert_eq!(agent.status().unwrap().origin, DataplaneOrigin::New);
    assert_eq!(names(&pins), ["links", "maps", "program"]);
    assert!(
        agent.log_end().contains("12 pins of lb 0.1"),
        "{}",
        agent.log_end()
    );
    stop_view(&agent.cli(&["stop", "--detach", "--json"]).unwrap());

    // They also go without an agent; what is of somebody else stays.
    lb_fixture::lay_out(LAYOUT_1, &pins).unwrap();
    fs::rename(pins.join("TARGETS"), pins.join("theirs")).unwrap();
    let detach = ["stop", "--detach", "--json", "--pin-dir", pins.to_str().unwrap()];
    let view = stop_view(&agent.cli(&detach).unwrap());
    assert!(view.removed[0].contains("11 pins of lb 0.1"), "{view:?}");
    assert_eq!(view.left, [pins.join("theirs").to_str().unwrap()]);
    assert_eq!(names(&pins), ["theirs"]);
}

#[test]
fn recorded_dataplane_is_laid_out_as_it_was_and_taken_over() {
    let (mut rig, target) = serving();
    requests(rig.client(), target, 20);
    rig.agent.kill().unwrap();
    let recorded = lb_fixture::record(&rig.agent.pins().pin_dir()).unwrap();
    assert!(recorded.contains("map maps/SLOTS "), "{recorded}");

    let copy = BpfFs::new().unwrap();
    lb_fixture::lay_out(&recorded, &copy.pin_dir()).unwrap();
    assert_eq!(lb_fixture::record(&copy.pin_dir()).unwrap(), recorded);
    let open = || {
        let capacity = Capacity {
            services: 1,
            targets: 1,
            slots: 65_536,
            flows: 4096,
            nat_flows: 4096,
        };
        Dataplane::open(
            PinDir::lock(&copy.pin_dir()).unwrap(),
            &capacity,
            0,
            Settings::default(),
        )
    };
    let dataplane = rig.lab.balancer.namespace.run(open).unwrap().unwrap();
    assert_eq!(dataplane.origin(), DataplaneSource::Adopted);
    assert_eq!(lb_fixture::record(&copy.pin_dir()).unwrap(), recorded);
}

/// A start that was interrupted at any of its steps leaves nothing that keeps the next one from starting.
#[test]
fn interrupted_start_is_begun_anew() {
    let (lab, mut agent) = idle();
    let pins = agent.pins().pin_dir();
    agent.kill().unwrap();
    // The last step was not reached: no links. (They end with the process that could not pin them.)
    for link in names(&pins.join("links")) {
        fs::remove_file(pins.join("links").join(link)).unwrap();
    }
    wait_until("the program is gone", || {
        xdp_on(&lab.balancer.namespace, "eth0").is_empty()
    });
    fs::rename(pins.join("program"), pins.join("program-new")).unwrap();
    agent.start_again().unwrap();
    assert_eq!(agent.status().unwrap().origin, DataplaneOrigin::Adopted);
    assert_eq!(names(&pins), ["links", "maps", "program"]);

    // Not all maps were there.
    stop_view(&agent.cli(&["stop", "--detach", "--json"]).unwrap());
    agent.process().wait(LIMIT).unwrap();
    let text = LAYOUT_1
        .lines()
        .filter(|line| line.starts_with("map COUNTS"))
        .collect::<String>();
    lb_fixture::lay_out(&text, &pins.join("maps-new")).unwrap();
    agent.start_again().unwrap();
    assert_eq!(agent.status().unwrap().origin, DataplaneOrigin::New);
    assert_eq!(names(&pins), ["links", "maps", "program"]);
}
