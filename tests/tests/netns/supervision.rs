//! Parts of the agent that fail: they begin again, and that is told.

use std::fs;

use lb_lab::{Agent, Forwarder, LbOptions};

use super::support::{LIMIT, lab, rig::lb, wait_until};

/// Waits until the agent answers and tells of a failure of its API that `word` says more of.
fn answers_again(agent: &Agent, word: &str) {
    wait_until("the API is there again, and the failure is told", || {
        let warnings = agent
            .status()
            .map_or_else(|_| Vec::new(), |status| status.warnings);
        let told = |warning: &String| warning.starts_with("the API has failed") && warning.contains(word);
        warnings.iter().any(told)
    });
    let status = agent.cli(&["status"]).unwrap();
    assert_eq!(status.status.code(), Some(0), "it is over");
}

#[test]
fn an_api_that_nobody_reaches_any_more_begins_again() {
    let lab = lab(Forwarder::L2dsr, 0);
    let mut agent = Agent::start(&lab.balancer, &LbOptions::new(lb(), None)).unwrap();
    let socket = agent.socket();
    assert_eq!(
        agent
            .status()
            .unwrap()
            .warnings
            .iter()
            .filter(|warning| warning.contains("failed"))
            .count(),
        0
    );

    // Somebody has tidied up.
    fs::remove_file(&socket).unwrap();
    fs::remove_file(format!("{}.lock", socket.display())).unwrap();
    answers_again(&agent, "removed or replaced");
    assert!(socket.exists());
    let stopped = agent.cli(&["stop"]).unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(agent.process().wait(LIMIT).unwrap().success());
    assert!(!socket.exists());
}

/// What cannot be helped ends the agent, so that whoever has started it can start it again; the dataplane goes on.
#[test]
fn an_agent_that_nobody_can_reach_ends() {
    let lab = lab(Forwarder::L2dsr, 0);
    let mut agent = Agent::start(&lab.balancer, &LbOptions::new(lb(), None)).unwrap();
    let socket = agent.socket();
    fs::remove_file(&socket).unwrap();
    // Somebody else answers there now.
    let _other = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let status = agent
        .process()
        .wait(lb_lab::patience::patient(5 * LIMIT))
        .unwrap();
    assert_eq!(status.code(), Some(1), "{}", agent.log_end());
    assert!(
        agent.log_end().contains("the API fails again and again"),
        "{}",
        agent.log_end()
    );
    assert_eq!(super::support::xdp_on(&lab.balancer.namespace, "eth0").len(), 1);
}
