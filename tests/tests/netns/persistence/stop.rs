//! The ends of agent and dataplane.

use lb_api::view::DataplaneOrigin;
use nix::sys::signal::Signal;

use super::{
    super::support::{LIMIT, requests, xdp_on},
    idle, names, serving, stop_view,
};

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
