//! The dataplane's life beyond the agent: killed, taken over, replaced, refused, stopped, detached.

mod pins;
mod refused;
mod stop;
mod takeover;
mod upgrade;

use std::{fs, path::Path};

use aya::maps::{Array, Map, MapData};
use lb_api::view::{StatusView, StopView};
use lb_common::abi::{Meta, map};
use lb_lab::{Agent, Forwarder, Lab, LbOptions};

use super::support::{lab, rig::lb, serving};

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

/// The slot tables, as text.
fn slots_of(agent: &Agent) -> Vec<String> {
    entries_of(&lb_fixture::record(&agent.pins().pin_dir()).unwrap(), map::SLOTS)
}

/// A map's entries in a recorded dataplane.
fn entries_of(recorded: &str, map: &str) -> Vec<String> {
    let heading = format!("map maps/{map} ");
    let entries = recorded.lines().skip_while(|line| !line.starts_with(&heading));
    let entries = entries
        .skip(1)
        .take_while(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    entries.map(str::to_owned).collect()
}

/// Makes a dataplane whose maps are in `maps` say something else of itself; what it said before.
fn rewrite_meta(maps: &Path, change: impl FnOnce(&mut Meta)) -> Meta {
    let data = MapData::from_pin(maps.join(map::META)).unwrap();
    let mut array: Array<_, [u64; 8]> = Map::Array(data).try_into().unwrap();
    let before: Meta = bytemuck::cast(array.get(&0, 0).unwrap());
    let mut after = before;
    change(&mut after);
    array.set(0, bytemuck::cast::<_, [u64; 8]>(after), 0).unwrap();
    before
}

/// What `lb stop --json` says.
fn stop_view(output: &std::process::Output) -> StopView {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}
