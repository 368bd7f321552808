//! From one agent to the next under load, and from one program to the next.

use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use aya::maps::{Array, Map, MapData};
use lb_api::view::DataplaneOrigin;
use lb_common::abi::Control;
use lb_core::plan::Capacity;
use lb_lab::{Forwarder, Lab, LabOptions, traffic::load::Load};
use lb_userspace::dataplane::{Dataplane, DataplaneSource, Mode, PinDir, Settings};
use lb_userspace::netlink::find_interface;

use super::{
    super::support::{
        PORT, Rig, Service, backend_addresses, patient_load, requests, shares, wait_until, xdp_on,
    },
    idle, names, program_and_link, serving, slots_of, stop_view,
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

/// Killed and started again under load, with health checks that a new agent has not made yet: the tables stay as they are.
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
        assert_eq!((status.backends_up, status.generation), (3, generation));
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

/// Killed at all instants of its first start: nothing is left, or something that can be taken over.
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

const CONTROL_WORDS: usize = size_of::<Control>() / 8;

/// The words that the program reads, as they are in the kernel at this instant.
fn control(maps: &Path) -> [u64; CONTROL_WORDS] {
    let data = MapData::from_pin(maps.join("data-control")).unwrap();
    let map: Array<_, [u64; CONTROL_WORDS]> = Map::Array(data).try_into().unwrap();
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
    assert_ne!(words, [0; CONTROL_WORDS]);
    let replace = || {
        let capacity = Capacity {
            services: 1,
            targets: 1,
            slots: 65_536,
            flows: 4096,
            nat_flows: 4096,
        };
        let pins = PinDir::lock(&directory).unwrap();
        let mut dataplane = Dataplane::open(pins, &capacity, 0, Settings::default()).unwrap();
        assert_eq!(dataplane.origin(), DataplaneSource::Adopted);
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
