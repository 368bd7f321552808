//! Nothing of the lab outlives its owner.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use lb_lab::{Forwarder, Namespace, find_binary, process::Process};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{LIMIT, lab, serve, wait_until};

#[test]
fn namespace_ends_with_its_last_holder() {
    let near = Namespace::new("near").unwrap();
    let far = Namespace::new("far").unwrap();
    near.netlink(async |netlink| {
        netlink.add_veth("near0", "far0").await?;
        netlink.move_to("far0", &far, "far0").await
    })
    .unwrap();
    let links = || near.netlink(async |netlink| netlink.interfaces().await).unwrap();
    assert_eq!(links(), ["lo", "near0"]);
    let inode = far.inode().unwrap();
    assert!(
        !namespaces_in_use(std::process::id()).contains(&inode),
        "no thread of ours is left inside"
    );
    drop(far);
    // One end of a veth pair goes when the kernel removes the namespace that holds the other.
    wait_until("the far namespace is removed", || links() == ["lo"]);
}

#[test]
fn the_host_sees_no_link_of_the_lab() {
    let names = || -> BTreeSet<_> {
        let entries = fs::read_dir("/sys/class/net").unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = names();
    let lab = lab(Forwarder::Nat, 1);
    assert_eq!(names(), before);
    drop(lab);
    assert_eq!(names(), before);
}

#[test]
fn a_dropped_process_is_dead() {
    let lab = lab(Forwarder::L2dsr, 1);
    let mut server = serve(&lab, &lab.backends[0]);
    let pid = server.process().id();
    assert!(is_running(pid));
    drop(server);
    assert!(!is_running(pid));
}

#[test]
fn nothing_outlives_a_killed_owner() {
    let mut command = Command::new(find_binary("lb-lab-node", "LB_LAB_NODE").unwrap());
    command.arg("hold").stdout(Stdio::piped());
    let mut owner = Process::spawn("owner", command).unwrap();
    let mut line = String::new();
    BufReader::new(owner.child().stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let held: Value = serde_json::from_str(&line).unwrap();
    let numbers = |key: &str| -> Vec<u64> {
        held[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|number| number.as_u64().unwrap())
            .collect()
    };
    let children: Vec<u32> = numbers("processes")
        .into_iter()
        .map(|pid| pid.try_into().unwrap())
        .collect();
    let namespaces = numbers("namespaces");
    assert_eq!((children.len(), namespaces.len()), (3, 6));
    for &child in &children {
        assert!(is_running(child));
        assert!(
            namespaces_in_use(child)
                .iter()
                .all(|namespace| namespaces.contains(namespace))
        );
    }

    owner.signal(Signal::SIGKILL).unwrap();
    owner.wait(LIMIT).unwrap();
    wait_until("the children are dead", || {
        !children.iter().any(|&child| is_running(child))
    });
    wait_until("no process uses the namespaces", || {
        let in_use: BTreeSet<u64> = processes().into_iter().flat_map(namespaces_in_use).collect();
        !namespaces.iter().any(|namespace| in_use.contains(namespace))
    });
}

/// Whether a process exists and is not just a dead entry that nobody has collected.
fn is_running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'))
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The inodes of the network namespaces that the threads of a process are in.
fn namespaces_in_use(pid: u32) -> BTreeSet<u64> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return BTreeSet::new();
    };
    threads
        .flatten()
        .filter_map(|thread| namespace_at(&thread.path().join("ns/net")))
        .collect()
}

/// The number in a link such as `net:[4026531840]`.
fn namespace_at(path: &Path) -> Option<u64> {
    let link = fs::read_link(path).ok()?;
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}
