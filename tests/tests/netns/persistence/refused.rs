//! What an agent does not take over, and directories that it does not use.

use std::{fs, path::Path};

use aya::maps::{Array, MapData};
use lb_api::view::DataplaneOrigin;
use lb_common::abi::{ABI_VERSION, Meta, map};
use lb_lab::{Forwarder, Lab};

use super::{
    super::support::{LbRun, lab, xdp_on},
    idle, names, rewrite_meta, stop_view,
};

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
                services: 1,
                targets: 1,
                slots: 65_536,
                flows: 4097,
                ..Meta::EMPTY
            },
            "4097 flows".to_owned(),
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
    let before = rewrite_meta(&maps, |meta| meta.clock_shift = 64);
    assert!(refused(&lab, &pins).contains("jiffies >> 64"));
    rewrite_meta(&maps, |meta| *meta = before);
    let before = rewrite_meta(&maps, |meta| meta.namespace += 1);
    assert!(refused(&lab, &pins).contains("another network namespace"));
    rewrite_meta(&maps, |meta| *meta = before);
    let before = rewrite_meta(&maps, |meta| meta.slots *= 2);
    assert!(refused(&lab, &pins).contains("map PREVIOUS is"));
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
