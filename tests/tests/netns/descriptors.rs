//! Thousands of backends that answer nothing, and few file descriptors.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt};

use lb_api::view::BackendState;
use lb_lab::{Forwarder, LbOptions, NextHop, Route};

use super::support::{PORT, Rig, Service, backend_addresses, lab, rig::lb, wait_until};

/// More than 1,024 descriptors do.
const DEAD: u16 = 1500;
/// Where the dead are: behind a router that nobody is, which costs no neighbour entry for each.
const NOBODY: [u8; 4] = [10, 0, 0, 250];
/// A check that holds its descriptor for as long as the test lasts.
const LONG: &str = r#"{ type = "tcp", interval = "1h", timeout = "1h" }"#;

/// It starts as a shell does it, with a soft limit of 1,024.
#[test]
fn dead_backends_by_the_thousand_leave_descriptors_to_the_living() {
    let lab = lab(Forwarder::Ipip, 1);
    let vip = lab.options().vips[0];
    let nowhere = async |netlink: &lb_lab::Netlink| {
        netlink
            .add_neighbour("eth0", NOBODY.into(), [2, 0, 0, 0, 0, 99])
            .await?;
        let route = Route {
            destination: IpAddr::from([10, 200, 0, 0]),
            prefix: 16,
            next: NextHop::Via(NOBODY.into()),
            mtu: None,
        };
        netlink.add_route(&route).await
    };
    lab.balancer.namespace.netlink(nowhere).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let limited = directory.path().join("lb-limited");
    let script = format!("#!/bin/sh\nulimit -S -n 1024\nexec {} \"$@\"\n", lb().display());
    fs::write(&limited, script).unwrap();
    fs::set_permissions(&limited, fs::Permissions::from_mode(0o755)).unwrap();

    let dead: Vec<IpAddr> = (0..DEAD)
        .map(|i| {
            let [high, low] = i.to_be_bytes();
            IpAddr::from([10, 200, high, low])
        })
        .collect();
    let service = Service::new(Forwarder::Ipip, &[vip])
        .text("name", "dead")
        .key("port", 81)
        .key("check", LONG)
        .backends(&dead);
    let mut rig = Rig::with(lab, &LbOptions::new(limited, Some(service.to_string())), &[PORT]);
    let files = format!("/proc/{}/fd", rig.agent.process().id());
    wait_until("all of the dead are being asked", || {
        fs::read_dir(&files).unwrap().count() > usize::from(DEAD)
    });

    let living = backend_addresses(&rig.lab, vip)[0];
    let name = living.to_string();
    let vip = vip.to_string();
    let add = [
        "service",
        "add",
        "web",
        "--vip",
        &vip,
        "--protocol",
        "tcp",
        "--port",
        "80",
    ];
    let more = [
        "--forwarder",
        "ipip",
        "--check",
        "tcp",
        "--check-timeout",
        "10s",
        "--backend",
        &name,
    ];
    rig.lb(&[&add[..], &more[..]].concat());
    rig.wait_for_state("web", living, BackendState::Up);
    rig.kill_server(0);
    rig.wait_for_state("web", living, BackendState::Down);
}
