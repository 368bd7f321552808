//! `lb backend-setup` as an operator uses it: what it changes on a backend, and that nothing is left when it is undone.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::{Command, Output},
};

use lb_lab::{BpfFs, Forwarder, Namespace, NextHop, Route};
use serde_json::Value;

use super::support::{Rig, Service, backend_addresses, lab, rig::lb, wait_until};

const INTERFACE: &str = "eth0";
const SETTINGS: [&str; 4] = [
    "ipv4/conf/all/arp_ignore",
    "ipv4/conf/all/arp_announce",
    "ipv4/conf/eth0/rp_filter",
    "ipv6/conf/all/disable_ipv6",
];

/// A host with one interface, where tunnels can end.
struct Backend {
    namespace: Namespace,
    pins: BpfFs,
    state: tempfile::TempDir,
}

impl Backend {
    fn new() -> Self {
        let namespace = Namespace::new("backend").unwrap();
        namespace
            .netlink(async |netlink| {
                netlink.add_veth(INTERFACE, "peer").await?;
                netlink.set_up("peer").await?;
                netlink.set_up(INTERFACE).await?;
                netlink.wait_until_up("peer").await?;
                netlink.wait_until_up(INTERFACE).await?;
                netlink.add_address(INTERFACE, address("10.0.0.11"), 24).await?;
                netlink
                    .add_address(INTERFACE, address("2001:db8:1::11"), 64)
                    .await
            })
            .unwrap();
        // Those of lo, the address above, and a link-local one of each end, which come in the background.
        wait_until("every IPv6 address has its route", || {
            let routes = namespace.run(|| fs::read_to_string("/proc/thread-self/net/ipv6_route"));
            let routes = routes.unwrap().unwrap();
            routes
                .lines()
                .filter(|line| line.split(' ').nth(1) == Some("80"))
                .count()
                == 4
        });
        Self {
            namespace,
            pins: BpfFs::new().unwrap(),
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(lb());
        command.args(arguments);
        self.namespace.run(|| command.output()).unwrap().unwrap()
    }

    /// Runs `lb backend-setup`, which must succeed; what it printed.
    fn set_up(&self, arguments: &[&str]) -> String {
        let output = self.try_to_set_up(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn try_to_set_up(&self, arguments: &[&str]) -> Output {
        let pins = self.pins.path().join("decap");
        let places = ["--pin-dir", text(&pins), "--state-dir", text(self.state.path())];
        self.run(&[&["backend-setup"], arguments, &places].concat())
    }

    /// Addresses, routes, settings, and whether a program is attached.
    fn look(&self) -> Vec<String> {
        let mut seen = self
            .namespace
            .run(|| {
                let read = |path: &str| fs::read_to_string(path).unwrap().trim().to_owned();
                // Of IPv6 routes: destination, gateway, metric, flags and interface; the rest counts uses.
                let route = |line: &str| {
                    let columns: Vec<&str> = line.split_whitespace().collect();
                    [0, 1, 4, 5, 8, 9].map(|i| columns[i]).join(" ")
                };
                let mut routes6: Vec<String> = read("/proc/thread-self/net/ipv6_route")
                    .lines()
                    .map(route)
                    .collect();
                routes6.sort();
                // Of IPv4 routes the leaves: the shape of the tree depends on what was there before.
                let trie = read("/proc/thread-self/net/fib_trie");
                let leaves = trie
                    .lines()
                    .map(str::trim)
                    .filter(|line| !line.starts_with("+--"));
                let mut seen = vec![
                    leaves.collect::<Vec<_>>().join("\n"),
                    read("/proc/thread-self/net/route"),
                    routes6.join("\n"),
                    read("/proc/thread-self/net/if_inet6"),
                ];
                seen.extend(
                    SETTINGS
                        .map(|setting| format!("{setting} {}", read(&format!("/proc/sys/net/{setting}")))),
                );
                seen
            })
            .unwrap();
        seen.push(self.mtu().to_string());
        let status = self.run(&["decap", "status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        seen.push(status["programs"].as_array().unwrap().len().to_string());
        seen
    }

    fn mtu(&self) -> u32 {
        let find = async || {
            lb_userspace::netlink::find_interface(INTERFACE)
                .await
                .unwrap()
                .mtu
        };
        self.namespace.block_on(find).unwrap()
    }

    fn owns(&self, owned: &str) -> bool {
        let own = async || lb_userspace::netlink::own_addresses().await.unwrap();
        self.namespace.block_on(own).unwrap().contains(&address(owned))
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const TUNNEL: [&str; 6] = [
    "--vip",
    "192.0.2.80,2001:db8::80,198.51.100.0/24,2001:db8:7::/64",
    "--forwarder",
    "ipip,gue",
    "--iface",
    INTERFACE,
];

#[test]
fn what_is_applied_is_there_once_and_undone_without_a_trace() {
    let backend = Backend::new();
    // Packets from everywhere would be dropped by these.
    backend
        .namespace
        .set_sysctls(&[("net/ipv4/conf/all/rp_filter", "1")])
        .unwrap();
    let before = backend.look();

    let printed = backend.set_up(&TUNNEL);
    assert!(
        printed.contains("ip address replace 192.0.2.80/32 dev lo"),
        "{printed}"
    );
    assert_eq!(backend.look(), before, "printing changes nothing");

    let apply = [&TUNNEL[..], &["--mtu", "1552", "--decap", "--apply"]].concat();
    let applied = backend.set_up(&apply);
    assert!(!applied.contains("as it was"), "{applied}");
    assert!(backend.owns("192.0.2.80") && backend.owns("2001:db8::80"));
    assert_eq!(backend.mtu(), 1552);
    let after = backend.look();
    for (setting, value) in [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "2")] {
        assert!(
            after
                .iter()
                .any(|seen| seen.ends_with(&format!("{setting} {value}"))),
            "{setting}"
        );
    }
    assert_eq!(after.last().unwrap(), "1", "lb decap is attached");

    let again = backend.set_up(&apply);
    assert!(!again.contains("done "), "{again}");
    assert_eq!(backend.look(), after);

    let undone = backend.set_up(&["--undo"]);
    assert_eq!(
        undone.lines().count(),
        applied.matches("done ").count(),
        "{undone}"
    );
    assert_eq!(backend.look(), before);
    assert_eq!(backend.set_up(&["--undo"]), "there is nothing to undo\n");
}

#[test]
fn a_second_service_leaves_the_tunnels_of_the_first() {
    let backend = Backend::new();
    let before = backend.look();
    let set_up = |forwarder| {
        let what = ["--vip", "192.0.2.80", "--forwarder", forwarder];
        let how = ["--iface", INTERFACE, "--decap", "--apply"];
        backend.set_up(&[what, how].concat())
    };
    assert!(set_up("ipip").contains("--tunnel ipip "));
    let second = set_up("gue");
    assert!(
        second
            .lines()
            .any(|line| line.starts_with("done ") && line.contains("--tunnel ipip,gue ")),
        "{second}"
    );
    let again = set_up("ipip");
    assert!(!again.contains("done "), "{again}");
    backend.set_up(&["--undo"]);
    assert_eq!(backend.look(), before);
}

#[test]
fn what_cannot_work_is_refused_before_the_first_step() {
    let backend = Backend::new();
    let before = backend.look();
    for (vip, interface, why) in [
        ("192.0.2.80", "eth9", "there is no interface"),
        ("0.0.0.0/0", INTERFACE, "too wide"),
        ("127.0.0.1", INTERFACE, "routable unicast"),
    ] {
        let what = [
            "--vip",
            vip,
            "--forwarder",
            "l2dsr",
            "--iface",
            interface,
            "--apply",
        ];
        let refused = backend.try_to_set_up(&what);
        assert_eq!(refused.status.code(), Some(2));
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(stderr.contains(why), "{stderr}");
    }
    assert_eq!(backend.look(), before);
}

#[test]
fn a_default_route_that_was_replaced_comes_back() {
    let backend = Backend::new();
    backend
        .namespace
        .netlink(async |netlink| {
            netlink
                .add_route(&Route {
                    destination: address("0.0.0.0"),
                    prefix: 0,
                    next: NextHop::Via(address("10.0.0.9")),
                    mtu: Some(1400),
                })
                .await
        })
        .unwrap();
    let before = backend.look();
    let nat = [
        "--vip",
        "192.0.2.80,2001:db8::80",
        "--forwarder",
        "nat",
        "--iface",
        INTERFACE,
    ];
    let refused = backend.try_to_set_up(&nat);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--via"));

    let through = [&nat[..], &["--via", "10.0.0.1,2001:db8:1::1", "--apply"]].concat();
    backend.set_up(&through);
    assert_ne!(backend.look(), before);
    assert!(!backend.owns("192.0.2.80"), "nat leaves the VIP to the balancer");
    assert!(!backend.set_up(&through).contains("done "));
    backend.set_up(&["--undo"]);
    assert_eq!(backend.look(), before);
}

#[test]
fn what_an_operator_set_stays() {
    let backend = Backend::new();
    backend
        .namespace
        .set_sysctls(&[("net/ipv4/conf/all/arp_ignore", "2")])
        .unwrap();
    backend
        .namespace
        .netlink(async |netlink| netlink.add_address("lo", address("192.0.2.80"), 32).await)
        .unwrap();
    let before = backend.look();
    let l2dsr = [
        "--vip",
        "192.0.2.80",
        "--forwarder",
        "l2dsr",
        "--iface",
        INTERFACE,
        "--apply",
        "--json",
    ];
    let view: Value = serde_json::from_str(&backend.set_up(&l2dsr)).unwrap();
    let changed = view["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 1, "only arp_announce was missing: {changed:?}");
    backend.set_up(&["--undo"]);
    assert_eq!(backend.look(), before);
}

/// From the agent and from the file, for one backend and for all.
#[test]
fn a_service_tells_what_its_backends_need() {
    let lab = lab(Forwarder::Gue, 2);
    let vip = lab.options().vips[0];
    let addresses = backend_addresses(&lab, vip);
    let config = Service::new(Forwarder::Gue, &[vip])
        .text("name", "web")
        .backends(&addresses);
    let rig = Rig::new(lab, &config);
    let wanted = format!("ip address replace {vip}/32 dev lo");
    let by_agent = rig.lb(&["backend-setup", "--service", "web", "--iface", INTERFACE]);
    assert!(by_agent.contains(&wanted), "{by_agent}");
    let file = rig.agent.config_file();
    let of_file = [
        "backend-setup",
        "--service",
        "web",
        "--iface",
        INTERFACE,
        "--config",
        text(&file),
    ];
    assert_eq!(rig.lb(&of_file), by_agent);
    let one = addresses[0].to_string();
    assert_eq!(rig.lb(&[&of_file[..], &["--backend", &one]].concat()), by_agent);
    let unknown = rig.lb_refuses(1, &[&of_file[..], &["--backend", "192.0.2.1"]].concat());
    assert!(unknown.contains("no backend 192.0.2.1"), "{unknown}");
    rig.lb_refuses(1, &["backend-setup", "--service", "nobody", "--iface", INTERFACE]);
    rig.lb_refuses(2, &["backend-setup", "--vip", "192.0.2.80", "--iface", INTERFACE]);
}

/// The fenced blocks of `docs/backends.md` in that language.
fn blocks(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/backends.md");
    let guide = fs::read_to_string(path).unwrap();
    let mut blocks = Vec::new();
    let mut lines = guide.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        let Some(of) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if of == language {
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// Word for word and in order, on one host; only that it keeps its files elsewhere.
#[test]
fn the_guides_commands_work_as_written() {
    let backend = Backend::new();
    let before = backend.look();
    let directory = backend.state.path();
    fs::write(directory.join("lb.toml"), &blocks("toml")[0]).unwrap();
    let pins = backend.pins.path().join("decap");
    let mut ran = 0;
    for line in blocks("sh").join("\n").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = Command::new(lb());
        command.current_dir(directory).args(&words[1..]);
        match words.as_slice() {
            // These ask the agent, or end with a signal.
            ["lb", "backend-setup", "--service", ..] | ["lb", "decap", "--iface", "eth0"] => continue,
            ["lb", "backend-setup", ..] => {
                command
                    .arg("--state-dir")
                    .arg(directory)
                    .arg("--pin-dir")
                    .arg(&pins);
            }
            ["lb", "decap", "status"] => {}
            ["lb", "decap", ..] => {
                command.arg("--pin-dir").arg(&pins);
            }
            _ => continue,
        }
        let output = backend.namespace.run(|| command.output()).unwrap().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        if ran == 0 {
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            let shown = &blocks("text")[0];
            // The last line depends on the kernel, and names the place of the pins.
            let (all_but_last, _) = shown.rsplit_once('\n').unwrap();
            assert!(printed.starts_with(all_but_last), "{printed}");
        }
        ran += 1;
    }
    assert!(ran >= 10, "only {ran} commands were found");
    backend.set_up(&["--undo"]);
    assert_eq!(backend.look(), before);
}
