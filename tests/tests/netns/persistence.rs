//! The dataplane's life beyond the agent: killed, taken over, replaced, refused, stopped, detached.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use aya::maps::{Array, Map, MapData};
use lb_common::abi::{ABI_VERSION, Meta, map};
use lb_tests::{
    fixture,
    lab::{Agent, BpfFs, Forwarder, Lab, LabOptions, LbOptions},
    traffic::load::Load,
};
use lb_userspace::{
    api::view::{DataplaneOrigin, StatusView, StopView},
    dataplane::{Dataplane, Mode, Origin, PinDir},
    netlink::find_interface,
    plan::Capacity,
};
use nix::sys::signal::Signal;

use super::support::{
    LIMIT, LbRun, NO_CHECK, PORT, Rig, Service, backend_addresses, lab, patient_load, requests, rig::lb,
    shares, wait_until, xdp_on,
};

/// How often the program is replaced under load.
const REPLACEMENTS: usize = 30;
/// At how many instants of its start an agent is killed, and how far they are apart; a start takes some 200 ms.
const HALFWAY: u32 = 25;
const HALFWAY_STEP: Duration = Duration::from_millis(12);
/// How often an agent is killed and started again under load.
const STARTS: u64 = 5;
/// Requests that must come through after each step under load.
const REQUESTS: usize = 60;

fn serving() -> (Rig, SocketAddr) {
    let lab = lab(Forwarder::L2dsr, 2);
    let vip = lab.options().vips[0];
    let web = Service::new(Forwarder::L2dsr, &[vip])
        .key("check", NO_CHECK)
        .backends(&backend_addresses(&lab, vip));
    (Rig::new(lab, &web), SocketAddr::new(vip, PORT))
}

fn idle() -> (Lab, Agent) {
    let lab = lab(Forwarder::L2dsr, 0);
    let agent = Agent::start(&lab.balancer, &LbOptions::new(lb(), None)).unwrap();
    (lab, agent)
}

/// Program and link of the only interface.
fn program_and_link(status: &StatusView) -> (u32, u32) {
    let [interface] = status.interfaces.as_slice() else {
        panic!("{:?}", status.interfaces)
    };
    (interface.program_id, interface.link_id)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn dataplane_outlives_a_killed_agent_and_the_next_one_takes_it_over() {
    let (mut rig, target) = serving();
    let before = rig.agent.status().unwrap();
    assert_eq!(before.origin, DataplaneOrigin::New);
    let load = Load::start(&rig.client().namespace, patient_load(target)).unwrap();
    rig.agent.kill().unwrap();
    let killed = load.records_from(0).len();
    wait_until("the load goes on", || {
        load.records_from(killed).len() > 2 * REQUESTS
    });
    assert_eq!(shares(&load.stop().unwrap()).len(), 2);

    rig.agent.start_again().unwrap();
    rig.wait_until_all_up();
    let after = rig.agent.status().unwrap();
    assert_eq!(after.origin, DataplaneOrigin::Adopted);
    assert_eq!(after.pin_dir, Some(rig.agent.pins().pin_dir()));
    let ((old_program, old_link), (program, link)) = (program_and_link(&before), program_and_link(&after));
    assert_eq!(link, old_link, "the link stays");
    assert_ne!(program, old_program, "the program is another one");
    assert_eq!(xdp_on(&rig.lab.balancer.namespace, "eth0")[0].program_id, program);
    assert_eq!(requests(rig.client(), target, 60).len(), 2);
    assert!(
        rig.lb(&["status"]).contains("taken over"),
        "{}",
        rig.lb(&["status"])
    );
}

/// Killed and started again under load, with heartbeats that a new agent has not made yet: the tables stay as they are.
#[test]
fn agent_starts_again_under_load_and_nobody_notices() {
    let lab = Lab::new(LabOptions {
        backends: 3,
        ..LabOptions::new(Forwarder::L2dsr)
    })
    .unwrap();
    let vip = lab.options().vips[0];
    let slow = r#"{ type = "tcp", port = 80, interval = "60s", timeout = "3s" }"#;
    let web = Service::new(Forwarder::L2dsr, &[vip])
        .key("check", slow)
        .backends(&backend_addresses(&lab, vip));
    let mut rig = Rig::new(lab, &web);
    let generation = rig.agent.services().unwrap().generation;
    let before = slots_of(&rig.agent);
    assert!(!before.is_empty());
    let load = Load::start(&rig.client().namespace, patient_load(SocketAddr::new(vip, PORT))).unwrap();
    for round in 1..=STARTS {
        rig.agent.kill().unwrap();
        rig.agent.start_again().unwrap();
        let status = rig.agent.status().unwrap();
        assert_eq!((status.backends_up, status.generation), (3, generation + round));
        wait_until("the load goes on", || {
            load.records_from(0).len() > REQUESTS * round as usize
        });
    }
    assert_eq!(shares(&load.stop().unwrap()).len(), 3);
    assert_eq!(rig.drops(), []);
    assert_eq!(slots_of(&rig.agent), before);
}

/// Killed at all instants of its start: what is there can be taken over, and packets go by it.
#[test]
fn start_that_is_killed_halfway_breaks_nothing() {
    let (mut rig, target) = serving();
    let before = slots_of(&rig.agent);
    let link = program_and_link(&rig.agent.status().unwrap()).1;
    let load = Load::start(&rig.client().namespace, patient_load(target)).unwrap();
    rig.agent.kill().unwrap();
    for instant in 0..HALFWAY {
        rig.agent.begin_again().unwrap();
        thread::sleep(HALFWAY_STEP * instant);
        rig.agent.kill().unwrap();
        assert_eq!(xdp_on(&rig.lab.balancer.namespace, "eth0").len(), 1);
    }
    rig.agent.start_again().unwrap();
    assert_eq!(program_and_link(&rig.agent.status().unwrap()).1, link);
    assert_eq!(slots_of(&rig.agent), before);
    assert_eq!(names(&rig.agent.pins().pin_dir()), ["links", "maps", "program"]);
    assert_eq!(shares(&load.stop().unwrap()).len(), 2);
    assert_eq!(rig.drops(), []);
}

/// The same with a first start, of which nothing or something that can be taken over may be left.
#[test]
fn first_start_that_is_killed_halfway_can_be_begun_again() {
    let (_lab, mut agent) = idle();
    for instant in 0..HALFWAY {
        stop_view(&agent.cli(&["stop", "--detach", "--json"]).unwrap());
        agent.begin_again().unwrap();
        thread::sleep(HALFWAY_STEP * instant);
        agent.kill().unwrap();
        agent.start_again().unwrap();
        assert_eq!(names(&agent.pins().pin_dir()), ["links", "maps", "program"]);
    }
}

/// The slot tables, as text.
fn slots_of(agent: &Agent) -> Vec<String> {
    let text = fixture::record(&agent.pins().pin_dir().join("maps")).unwrap();
    let slots = text.lines().skip_while(|line| !line.starts_with("map SLOTS "));
    let slots = slots.skip(1).take_while(|line| !line.starts_with("map "));
    slots.map(str::to_owned).collect()
}

/// The words that the program reads, as they are in the kernel at this instant.
fn control(maps: &Path) -> [u64; 7] {
    let data = MapData::from_pin(maps.join("data-control")).unwrap();
    let map: Array<_, [u64; 7]> = Map::Array(data).try_into().unwrap();
    map.get(&0, 0).unwrap()
}

#[test]
fn program_is_replaced_under_load_and_meets_the_same_tables() {
    let (mut rig, target) = serving();
    let before = rig.agent.status().unwrap();
    let dropped = rig.drops();
    let load = Load::start(&rig.client().namespace, patient_load(target)).unwrap();
    wait_until("the load runs", || load.records_from(0).len() > REQUESTS);
    rig.agent.kill().unwrap();

    let (directory, stop) = (rig.agent.pins().pin_dir(), AtomicBool::new(false));
    let words = control(&directory.join("maps"));
    assert_ne!(words, [0; 7]);
    let replace = || {
        let capacity = Capacity {
            services: 1,
            targets: 1,
            slots: 65_536,
            flows: 4096,
        };
        let pins = PinDir::lock(&directory).unwrap();
        let mut dataplane = Dataplane::open(pins, &capacity, 0, false).unwrap();
        assert_eq!(dataplane.origin(), Origin::Adopted);
        assert_ne!(dataplane.capacity(), capacity, "its sizes stay");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let interface = runtime.block_on(find_interface("eth0")).unwrap();
        let attached = dataplane.attach(vec![interface], Mode::Native).unwrap();
        assert!(attached[0].kept);
        assert_eq!(attached[0].link_id, program_and_link(&before).1);
        let mut programs = vec![program_and_link(&before).0, dataplane.program_id().unwrap()];
        for _ in 0..REPLACEMENTS {
            dataplane.replace().unwrap();
            programs.push(dataplane.program_id().unwrap());
        }
        programs.dedup();
        assert_eq!(programs.len(), REPLACEMENTS + 2);
    };
    let looks = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(control(&directory.join("maps")), words);
                looks += 1;
            }
            looks
        });
        let replaced = scope.spawn(|| rig.lab.balancer.namespace.run(replace)).join();
        stop.store(true, Ordering::Relaxed);
        replaced.unwrap().unwrap();
        watch.join().unwrap()
    });
    assert!(looks > REPLACEMENTS, "{looks} looks at the control words");
    assert_eq!(shares(&load.stop().unwrap()).len(), 2);

    rig.agent.start_again().unwrap();
    assert_eq!(rig.drops(), dropped);
}

/// Starts an agent on these pins, which must refuse them and leave the dataplane as it is; what it said.
fn refused(lab: &Lab, pins: &Path) -> String {
    let programs = xdp_on(&lab.balancer.namespace, "eth0");
    assert_eq!(programs.len(), 1);
    let arguments = ["--iface", "eth0", "--pin-dir", pins.to_str().unwrap()];
    let ended = LbRun::start(&lab.balancer.namespace, &arguments).wait();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert_eq!(xdp_on(&lab.balancer.namespace, "eth0"), programs);
    for what in ["cannot be taken over", "lb stop --detach"] {
        assert!(ended.log.contains(what), "no {what} in: {}", ended.log);
    }
    ended.log
}

/// Makes the dataplane say something else of itself.
fn rewrite_meta(maps: &Path, change: impl FnOnce(&mut Meta)) -> Meta {
    let data = MapData::from_pin(maps.join(map::META)).unwrap();
    let mut array: Array<_, [u64; 8]> = Map::Array(data).try_into().unwrap();
    let before: Meta = bytemuck::cast(array.get(&0, 0).unwrap());
    let mut after = before;
    change(&mut after);
    array.set(0, bytemuck::cast::<_, [u64; 8]>(after), 0).unwrap();
    before
}

#[test]
fn what_is_not_of_this_version_is_refused_and_goes_on() {
    let (lab, mut agent) = idle();
    let pins = agent.pins().pin_dir();
    let maps = pins.join("maps");
    agent.kill().unwrap();

    for (changed, expected) in [
        (
            Meta {
                abi_version: ABI_VERSION + 1,
                ..Meta::EMPTY
            },
            format!("layout {}", ABI_VERSION + 1),
        ),
        (
            Meta {
                magic: 1,
                ..Meta::EMPTY
            },
            "not of lb".to_owned(),
        ),
        (
            Meta {
                services: u32::MAX,
                targets: 1,
                slots: 65_536,
                flows: 4096,
                ..Meta::EMPTY
            },
            "max_services".to_owned(),
        ),
    ] {
        let before = rewrite_meta(&maps, |meta| *meta = changed);
        let log = refused(&lab, &pins);
        assert!(log.contains(&expected), "no {expected} in: {log}");
        rewrite_meta(&maps, |meta| *meta = before);
    }
    let before = rewrite_meta(&maps, |meta| meta.namespace += 1);
    assert!(refused(&lab, &pins).contains("another network namespace"));
    rewrite_meta(&maps, |meta| *meta = before);
    let before = rewrite_meta(&maps, |meta| meta.slots *= 2);
    assert!(refused(&lab, &pins).contains("map SLOTS is"));
    rewrite_meta(&maps, |meta| *meta = before);

    // A map that is missing, and one with other values.
    let slots = maps.join(map::SLOTS);
    let original = MapData::from_pin(&slots).unwrap();
    fs::remove_file(&slots).unwrap();
    assert!(refused(&lab, &pins).contains("maps/SLOTS"));
    let other = Array::<_, u64>::create(original.info().unwrap().max_entries(), 0).unwrap();
    other.pin(&slots).unwrap();
    assert!(refused(&lab, &pins).contains("map SLOTS is"));
    fs::remove_file(&slots).unwrap();
    original.pin(&slots).unwrap();

    // Put right again, it is taken over.
    agent.start_again().unwrap();
    assert_eq!(agent.status().unwrap().origin, DataplaneOrigin::Adopted);
}

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
fn directories_that_cannot_hold_a_dataplane_are_refused() {
    let lab = lab(Forwarder::L2dsr, 0);
    let plain = tempfile::tempdir().unwrap();
    let directory = plain.path().join("lb");
    let arguments = ["--iface", "eth0", "--pin-dir", directory.to_str().unwrap()];
    let refused = LbRun::start(&lab.balancer.namespace, &arguments).wait();
    assert_eq!(refused.code, Some(1), "{}", refused.log);
    for what in ["mount -t bpf", "--ephemeral", "--pin-dir"] {
        assert!(refused.log.contains(what), "no {what} in: {}", refused.log);
    }
    assert!(!directory.exists(), "nothing is made there");
    assert_eq!(xdp_on(&lab.balancer.namespace, "eth0"), []);
}

#[test]
fn second_agent_on_a_dataplane_is_refused_but_not_after_a_crash() {
    let (lab, mut agent) = idle();
    let pins = agent.pins().pin_dir();
    let arguments = [
        "--iface",
        "lo",
        "--mode",
        "generic",
        "--pin-dir",
        pins.to_str().unwrap(),
    ];
    let second = LbRun::start(&lab.balancer.namespace, &arguments).wait();
    assert_eq!(second.code, Some(1), "{}", second.log);
    let holder = format!("lb (pid {})", agent.process().id());
    assert!(second.log.contains(&holder), "no {holder} in: {}", second.log);
    assert_eq!(xdp_on(&lab.balancer.namespace, "lo"), []);
    let refused = agent.cli(&[
        "stop",
        "--detach",
        "--socket",
        "/nowhere",
        "--pin-dir",
        pins.to_str().unwrap(),
    ]);
    assert!(!refused.unwrap().status.success());
    agent.services().unwrap();

    agent.kill().unwrap();
    agent.start_again().unwrap();
    assert_eq!(agent.status().unwrap().origin, DataplaneOrigin::Adopted);
}

#[test]
fn stray_pin_among_links_is_named_and_removed() {
    let (lab, mut agent) = idle();
    let pins = agent.pins().pin_dir();
    agent.kill().unwrap();
    let stray = pins.join("links/7");
    Array::<_, u64>::create(1, 0).unwrap().pin(&stray).unwrap();
    let arguments = ["--iface", "eth0", "--pin-dir", pins.to_str().unwrap()];
    let refused = LbRun::start(&lab.balancer.namespace, &arguments).wait();
    assert_eq!(refused.code, Some(1), "{}", refused.log);
    assert!(
        refused.log.contains("links/7 is no link of lb") && refused.log.contains("`rm`"),
        "{}",
        refused.log
    );
    let detach = ["stop", "--detach", "--json", "--pin-dir", pins.to_str().unwrap()];
    let view = stop_view(&agent.cli(&detach).unwrap());
    assert!(
        view.removed.iter().any(|what| what.ends_with("links/7")),
        "{view:?}"
    );
    assert_eq!(names(&pins), Vec::<String>::new());
}

fn stop_view(output: &std::process::Output) -> StopView {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn plain_stop_leaves_the_dataplane_and_detach_ends_it_without_an_agent() {
    let (mut rig, target) = serving();
    let balancer = rig.lab.balancer.namespace.clone();
    let pins = rig.agent.pins().pin_dir();
    let said = rig.lb(&["stop"]);
    for what in ["goes on", "eth0", "lb stop --detach", pins.to_str().unwrap()] {
        assert!(said.contains(what), "no {what} in: {said}");
    }
    assert!(rig.agent.process().wait(LIMIT).unwrap().success());
    assert!(
        rig.agent.log_end().contains("stays on eth0"),
        "{}",
        rig.agent.log_end()
    );
    assert_eq!(requests(rig.client(), target, 60).len(), 2);

    // There is no agent to stop any more, but a dataplane to end.
    rig.lb_refuses(3, &["stop"]);
    let detach = ["stop", "--detach", "--json", "--pin-dir", pins.to_str().unwrap()];
    let view = stop_view(&rig.agent.cli(&detach).unwrap());
    assert!(!view.forwarding && view.pid.is_none(), "{view:?}");
    assert!(
        view.removed.contains(&"the program on eth0".to_owned()),
        "{view:?}"
    );
    assert_eq!(xdp_on(&balancer, "eth0"), []);
    assert_eq!(names(&pins), Vec::<String>::new());
    assert_eq!(
        stop_view(&rig.agent.cli(&detach).unwrap()).removed,
        Vec::<String>::new()
    );

    // From nothing again.
    rig.agent.start_again().unwrap();
    assert_eq!(rig.agent.status().unwrap().origin, DataplaneOrigin::New);
    rig.wait_until_all_up();
    assert_eq!(requests(rig.client(), target, 60).len(), 2);
}

#[test]
fn agent_is_asked_to_detach() {
    let (lab, mut agent) = idle();
    let pins = agent.pins().pin_dir();
    let view = stop_view(&agent.cli(&["stop", "--detach", "--json"]).unwrap());
    assert_eq!(view.pid, Some(agent.process().id()));
    assert!(!view.forwarding && view.removed.contains(&"the program on eth0".to_owned()));
    assert_eq!(xdp_on(&lab.balancer.namespace, "eth0"), []);
    assert_eq!(names(&pins), Vec::<String>::new());
    assert!(agent.process().wait(LIMIT).unwrap().success());
}

#[test]
fn signals_leave_the_dataplane() {
    let (lab, mut agent) = idle();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        agent.process().signal(signal).unwrap();
        assert!(agent.process().wait(LIMIT).unwrap().success());
        assert_eq!(xdp_on(&lab.balancer.namespace, "eth0").len(), 1, "{signal}");
        agent.start_again().unwrap();
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

/// What lb 0.1 left when it was killed: pins beside one another, and nothing that runs by them.
const LAYOUT_1: &str = include_str!("../../fixtures/abi-1.txt");

#[test]
fn pins_of_lb_0_1_make_room() {
    let (_lab, mut agent) = idle();
    let pins = agent.pins().pin_dir();
    stop_view(&agent.cli(&["stop", "--detach", "--json"]).unwrap());
    fixture::lay_out(LAYOUT_1, &pins).unwrap();
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
    fixture::lay_out(LAYOUT_1, &pins).unwrap();
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
    let recorded = fixture::record(&rig.agent.pins().pin_dir()).unwrap();
    assert!(recorded.contains("map maps/SLOTS "), "{recorded}");

    let copy = BpfFs::new().unwrap();
    fixture::lay_out(&recorded, &copy.pin_dir()).unwrap();
    assert_eq!(fixture::record(&copy.pin_dir()).unwrap(), recorded);
    let open = || {
        let capacity = Capacity {
            services: 1,
            targets: 1,
            slots: 65_536,
            flows: 4096,
        };
        Dataplane::open(PinDir::lock(&copy.pin_dir()).unwrap(), &capacity, 0, false)
    };
    let dataplane = rig.lab.balancer.namespace.run(open).unwrap().unwrap();
    assert_eq!(dataplane.origin(), Origin::Adopted);
    assert_eq!(fixture::record(&copy.pin_dir()).unwrap(), recorded);
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
    fixture::lay_out(&text, &pins.join("maps-new")).unwrap();
    agent.start_again().unwrap();
    assert_eq!(agent.status().unwrap().origin, DataplaneOrigin::New);
    assert_eq!(names(&pins), ["links", "maps", "program"]);
}
