//! From one release to the next: what earlier versions of the tables have pinned, as recorded in `tests/fixtures`.

use std::{fs, path::Path, process::Command, time::SystemTime};

use aya::{
    maps::{Array, Map, MapData, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use lb_api::{
    packet::{ExplainRequest, to_hex},
    view::{BackendState, DataplaneOrigin},
};
use lb_common::abi::{FlowValue, Meta, Reason, map};
use lb_core::plan::Capacity;
use lb_fixture::{self, Told};
use lb_lab::{Agent, BpfFs, Lab, LbOptions};
use lb_packets::Frame;
use lb_userspace::dataplane::{Dataplane, PinDir, Settings};

use super::{
    super::support::{LbRun, YEAR, rig::lb, send_to, wait_until},
    entries_of, names, rewrite_meta, stop_view,
};

const DATAPLANE_2: &str = include_str!("../../../fixtures/abi-2.txt");
const DESIRED_2: &str = include_str!("../../../fixtures/abi-2.toml");
const TOLD_2: &str = include_str!("../../../fixtures/abi-2.json");
const CHECKPOINT_2: &[u8] = include_bytes!("../../../fixtures/abi-2.checkpoint");
const DATAPLANE_3: &str = include_str!("../../../fixtures/abi-3.txt");
const DESIRED_3: &str = include_str!("../../../fixtures/abi-3.toml");
const TOLD_3: &str = include_str!("../../../fixtures/abi-3.json");

/// Its tables have another layout: it is refused as it is, and goes on; once it was taken away, what its agent had saved
/// brings services, slots and flows back.
#[test]
fn dataplane_of_version_2_is_refused_and_comes_back_from_its_checkpoint() {
    let lab = lb_fixture::lab().unwrap();
    let pins = BpfFs::new().unwrap();
    let pin_dir = pins.pin_dir();
    lb_fixture::lay_out(DATAPLANE_2, &pin_dir).unwrap();
    let before = lb_fixture::record(&pin_dir).unwrap();
    let pin_dir = pin_dir.to_str().unwrap();

    let arguments = ["--iface", "eth0", "--pin-dir", pin_dir];
    let ended = LbRun::start(&lab.balancer.namespace, &arguments).wait();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    for what in [
        "layout 2",
        "cannot be taken over",
        "lb stop --detach",
        "checkpoint",
    ] {
        assert!(ended.log.contains(what), "no {what} in: {}", ended.log);
    }
    assert_eq!(lb_fixture::record(Path::new(pin_dir)).unwrap(), before);

    let options = LbOptions::new(lb(), Some(DESIRED_2.to_owned()));
    detach(pin_dir);
    let mut agent = Agent::start_on(&lab.balancer, &options, pins).unwrap();
    let now = SystemTime::now();
    // Drains of a day go on in a checkpoint that was just written, or by a clock that was set back since. After a year
    // their deadline has passed, and their flows are cut.
    for (taken, drains, flows) in [
        (now, BackendState::Drain, 85),
        // What the clock on the wall shows ends no drain: nobody knows that a year has passed.
        (now - YEAR, BackendState::Drain, 85),
        (now + YEAR, BackendState::Drain, 85),
    ] {
        comes_back_from_its_checkpoint(&mut agent, taken, drains, flows);
    }
}

/// Kills the agent, takes its dataplane away and starts it on the recorded checkpoint, as if that had been written at
/// `taken`: all is there that was, but in the end backends that were draining are in the state `drains`, and the flow
/// table has `flows`.
fn comes_back_from_its_checkpoint(agent: &mut Agent, taken: SystemTime, drains: BackendState, flows: u64) {
    agent.kill().unwrap();
    detach(agent.pins().pin_dir().to_str().unwrap());
    let checkpoints = agent.config_file().with_file_name("state/checkpoints");
    fs::remove_dir_all(&checkpoints).unwrap();
    fs::create_dir(&checkpoints).unwrap();
    let recorded = lb_fixture::redate(CHECKPOINT_2, taken).unwrap();
    fs::write(checkpoints.join("0000000015.checkpoint"), recorded).unwrap();
    agent.start_again().unwrap();

    let status = agent.status().unwrap();
    assert_eq!(status.origin, DataplaneOrigin::New);
    wait_until_states_are(agent, &[BackendState::Up, drains]);
    wait_until("flows came back", || {
        agent.status().unwrap().flows_tracked == flows
    });
    let mut recorded: Told = serde_json::from_str(TOLD_2).unwrap();
    let backends = recorded
        .services
        .iter_mut()
        .flat_map(|service| &mut service.backends);
    for backend in backends.filter(|backend| backend.state == BackendState::Drain) {
        backend.state = drains;
    }
    assert_eq!(Told::by(agent, []).unwrap().services, recorded.services);
}

/// Takes a dataplane away that no agent looks after.
fn detach(pin_dir: &str) {
    let arguments = ["stop", "--detach", "--json", "--pin-dir", pin_dir];
    let mut command = Command::new(lb());
    command.args(arguments).args(["--socket", "/nowhere"]);
    stop_view(&command.output().unwrap());
}

fn wait_until_states_are(agent: &Agent, known: &[BackendState]) {
    wait_until("the backends' states are known", || {
        let view = agent.services().unwrap();
        let mut backends = view.services.iter().flat_map(|service| &service.backends);
        backends.all(|backend| known.contains(&backend.state))
    });
}

#[test]
fn dataplane_of_version_3_is_taken_over_as_it_was_recorded() {
    let recorded: Told = serde_json::from_str(TOLD_3).unwrap();
    let lab = lb_fixture::lab().unwrap();
    let pins = BpfFs::new().unwrap();
    lb_fixture::lay_out(DATAPLANE_3, &pins.pin_dir()).unwrap();
    make_it_of_here_and_now(&pins.pin_dir().join("maps"), &lab);
    const TRUNCATED: u64 = 5;
    count_truncated(&pins.pin_dir().join("maps"), TRUNCATED);

    let options = LbOptions::new(lb(), Some(DESIRED_3.to_owned()));
    let mut agent = Agent::start_on(&lab.balancer, &options, pins).unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status.origin, DataplaneOrigin::Adopted);
    assert_eq!(
        (status.services, status.flows_capacity, status.drift),
        (recorded.services.len() as u64, 1024, false)
    );
    assert_eq!(names(&agent.pins().pin_dir()), ["links", "maps", "program"]);
    wait_until_states_are(&agent, &[BackendState::Up, BackendState::Drain]);

    // Services and backends are the same, and each flow of the flow table is known and has its backend.
    let flows = recorded.flows.iter().map(|known| known.flow.clone());
    let told = Told::by(&agent, flows).unwrap();
    assert_eq!(told.services, recorded.services);
    let lost = recorded.flows.iter().find(|known| !told.flows.contains(known));
    assert_eq!(lost, None, "of {} flows", recorded.flows.len());
    assert!(recorded.flows.len() >= 50, "the recording holds too few flows");
    // No slot has moved, and all previous owners are there.
    let now = lb_fixture::record(&agent.pins().pin_dir()).unwrap();
    for map in [map::SLOTS, map::PREVIOUS] {
        let before = entries_of(DATAPLANE_3, map);
        assert!(!before.is_empty(), "{map}");
        assert_eq!(entries_of(&now, map), before, "{map}");
    }

    // It lacks what tells frames for others, and room for their reason: both are there now, and stay.
    let counts = |agent: &Agent| {
        let reasons = agent.stats().unwrap().reasons;
        let count = |reason: Reason| reasons[reason as usize].packets;
        (count(Reason::Truncated), count(Reason::OtherHost))
    };
    wait_until("frames for others are told from its own", || {
        explained_for_another_host(&agent) == "other-host"
    });
    send_to(&lab.balancer, &lab.wire, &frame_for_another_host());
    wait_until("it is counted", || counts(&agent).1 > 0);
    let (_, counted) = counts(&agent);
    agent.kill().unwrap();
    agent.start_again().unwrap();
    assert_eq!(agent.status().unwrap().origin, DataplaneOrigin::Adopted);
    assert_eq!(explained_for_another_host(&agent), "other-host");
    let (truncated, others) = counts(&agent);
    assert_eq!(truncated, TRUNCATED);
    assert!(others >= counted, "{others} after {counted}");
}

/// Counts so many packets in a recorded dataplane.
fn count_truncated(maps: &Path, packets: u64) {
    let data = MapData::from_pin(maps.join(map::REASONS)).unwrap();
    let mut reasons: PerCpuArray<_, u64> = Map::PerCpuArray(data).try_into().unwrap();
    let mut counts = vec![0; nr_cpus().unwrap()];
    counts[0] = packets;
    let counts = PerCpuValues::try_from(counts).unwrap();
    reasons.set(Reason::Truncated.number(), counts, 0).unwrap();
}

fn frame_for_another_host() -> Vec<u8> {
    let frame = Frame::tcp("198.51.100.7:40000", "192.0.2.80:80");
    frame.macs([2, 0, 0, 0, 0, 0x99], [2, 0, 0, 0, 0, 0x98]).bytes()
}

fn explained_for_another_host(agent: &Agent) -> String {
    let question = ExplainRequest {
        frame_hex: Some(to_hex(&frame_for_another_host())),
        ..ExplainRequest::default()
    };
    agent.explain(&question).unwrap().reason
}

/// The dataplane was recorded in another namespace, under a kernel whose clock stood elsewhere: now it belongs to
/// this lab's balancer, and all its flows have just been seen.
fn make_it_of_here_and_now(maps: &Path, lab: &Lab) {
    let capacity = Capacity {
        services: 1,
        targets: 1,
        slots: 65_536,
        flows: 4096,
        nat_flows: 4096,
    };
    let here = BpfFs::new().unwrap();
    let open = || {
        Dataplane::open(
            PinDir::lock(&here.pin_dir()).unwrap(),
            &capacity,
            0,
            Settings::default(),
        )
    };
    let dataplane = lab.balancer.namespace.run(open).unwrap().unwrap();
    let clock = dataplane.flow_time().unwrap().now;
    let Meta {
        namespace,
        clock_shift,
        ..
    } = *dataplane.meta();
    rewrite_meta(maps, |meta| {
        meta.namespace = namespace;
        meta.clock_shift = clock_shift;
    });

    let data = MapData::from_pin(maps.join(map::FLOWS)).unwrap();
    let mut lines: Array<_, [u64; 8]> = Map::Array(data).try_into().unwrap();
    for index in 0..lines.len() {
        let mut line = lines.get(&index, 0).unwrap();
        for value in &mut line[4..] {
            let flow = FlowValue(*value);
            if let Some(state) = flow.state() {
                let service = flow.vip() << 16 | flow.service();
                *value = FlowValue::new(flow.owner(), state, service, clock).0;
            }
        }
        lines.set(index, line, 0).unwrap();
    }
}
