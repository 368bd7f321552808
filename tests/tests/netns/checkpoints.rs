//! What outlives the agent: changes made at run time, over crashes, damage and a full disk.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::SystemTime,
};

use lb_api::view::{BackendState, StatusView};
use lb_lab::{Forwarder, Lab, LbOptions, process::Process};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::support::{
    HeldConnections, LIMIT, NO_CHECK, PORT, Rig, Service, YEAR, backend_addresses, lab, requests, rig::lb,
    wait_until, xdp_on,
};

/// A service `web` with the first `count` backends of the lab.
fn web(lab: &Lab, count: usize) -> Service {
    let vip = lab.options().vips[0];
    let backends = backend_addresses(lab, vip);
    Service::new(Forwarder::L2dsr, &[vip])
        .key("check", NO_CHECK)
        .backends(&backends[..count])
}

/// A running agent, two of whose three backends are declared; and the address of the third as text.
fn rig_of_two() -> (Rig, String) {
    let lab = lab(Forwarder::L2dsr, 3);
    let third = backend_addresses(&lab, lab.options().vips[0])[2].to_string();
    let config = web(&lab, 2);
    (Rig::new(lab, &config), third)
}

/// Kills the agent and starts it on its checkpoints as if they had been written now, a year ago and a year ahead.
fn kill_and_start_again(rig: &mut Rig) {
    let now = SystemTime::now();
    for taken in [now, now - YEAR, now + YEAR] {
        rig.agent.kill().unwrap();
        lb_fixture::redate_all(&directory(rig), taken).unwrap();
        rig.agent.start_again().unwrap();
    }
}

/// Addresses and weights of the backends of `web`.
fn weights(rig: &Rig) -> Vec<(String, u16)> {
    let view = rig.agent.services().unwrap();
    let backends = view.services[0].backends.iter();
    backends
        .filter(|backend| backend.state != BackendState::Drain)
        .map(|backend| (backend.address.to_string(), backend.weight))
        .collect()
}

fn directory(rig: &Rig) -> PathBuf {
    rig.agent
        .config_file()
        .with_file_name("state")
        .join("checkpoints")
}

/// The checkpoints that are there, the newest first.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "checkpoint")
        })
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    files
}

fn verify(rig: &Rig) -> Output {
    let state = rig.agent.config_file().with_file_name("state");
    let arguments = ["checkpoint", "verify", "all", "--state-dir"];
    let mut command = Command::new(lb());
    command.args(arguments).arg(state).output().unwrap()
}

#[test]
fn what_was_changed_at_run_time_outlives_a_kill() {
    let (mut rig, third) = rig_of_two();
    rig.lb(&["backend", "add", "web", &third, "--weight", "3"]);
    rig.lb(&[
        "service",
        "add",
        "more",
        "--vip",
        "192.0.2.99",
        "--protocol",
        "udp",
        "--port",
        "53",
        "--forwarder",
        "ipip",
    ]);
    let before = rig.agent.status().unwrap();
    let desired = weights(&rig);
    assert!(before.drift, "the file has neither");

    kill_and_start_again(&mut rig);
    let after = rig.agent.status().unwrap();
    assert_eq!(
        (after.generation, &after.hash_seed, after.services, after.drift),
        (before.generation, &before.hash_seed, 2, true)
    );
    assert_eq!(weights(&rig), desired);
    rig.wait_until_all_up();
    let target = SocketAddr::new(rig.lab.options().vips[0], PORT);
    assert_eq!(requests(rig.client(), target, 100).len(), 3);

    // A reload makes it the file's again, and that outlives a kill as well.
    rig.lb(&["reload", "--now"]);
    kill_and_start_again(&mut rig);
    let status = rig.agent.status().unwrap();
    assert_eq!((status.services, status.drift), (1, false));
    assert_eq!(weights(&rig).len(), 2);
}

#[test]
fn a_changed_file_wins_at_the_next_start() {
    let (mut rig, third) = rig_of_two();
    rig.lb(&["backend", "add", "web", &third]);
    let generation = rig.agent.status().unwrap().generation;
    rig.agent.kill().unwrap();
    rig.write_config(&web(&rig.lab, 1));
    rig.agent.start_again().unwrap();
    let status = rig.agent.status().unwrap();
    assert_eq!((status.generation, status.drift), (generation + 1, false));
    assert_eq!(weights(&rig).len(), 1);
    let log = rig.agent.log_end();
    assert!(log.contains("has changed since"), "{log}");
}

#[test]
fn an_agent_without_a_file_goes_on_from_the_checkpoint() {
    let options = LbOptions::new(lb(), None);
    let mut rig = Rig::with(lab(Forwarder::L2dsr, 0), &options, &[]);
    rig.lb(&[
        "service",
        "add",
        "dns",
        "--vip",
        "192.0.2.53",
        "--protocol",
        "udp",
        "--port",
        "53",
        "--forwarder",
        "ipip",
    ]);
    kill_and_start_again(&mut rig);
    let view = rig.agent.services().unwrap();
    assert_eq!(view.services[0].name, "dns");
    assert!(!rig.agent.status().unwrap().drift);
}

#[test]
fn of_a_damaged_newest_file_the_one_before_is_used() {
    let (mut rig, third) = rig_of_two();
    rig.lb(&["backend", "set", "web", &backend(&rig, 0), "--weight", "5"]);
    let desired = weights(&rig);
    rig.lb(&["backend", "add", "web", &third]);
    rig.agent.kill().unwrap();

    // All that was written since the backend was added is torn, and one is of a version that never was.
    let files = files(&directory(&rig));
    let mut since = files.iter().filter(|path| of_last_generation(path, &files[0]));
    let torn = since.next().unwrap();
    fs::File::options()
        .write(true)
        .open(torn)
        .unwrap()
        .set_len(200)
        .unwrap();
    for other in since {
        fs::File::options()
            .write(true)
            .open(other)
            .unwrap()
            .write_all_at(&[0; 4], 8)
            .unwrap();
    }
    let verified = verify(&rig);
    assert_eq!(verified.status.code(), Some(1));
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(said.contains("cut off"), "{said}");

    rig.agent.start_again().unwrap();
    assert_eq!(
        weights(&rig),
        desired,
        "the change before the last is there, the last is not"
    );
    let StatusView {
        checkpoint, warnings, ..
    } = rig.agent.status().unwrap();
    let aside = checkpoint.set_aside.first().unwrap();
    assert!(
        aside.reason.contains("cut off") && aside.file.exists(),
        "{aside:?}"
    );
    assert!(!torn.exists());
    assert!(
        warnings.iter().any(|warning| warning.contains("cut off")),
        "{warnings:?}"
    );
    assert_eq!(verify(&rig).status.code(), Some(0), "what is set aside is known");
    rig.lb(&["backend", "add", "web", &third]);
}

/// The address of a backend of `web`.
fn backend(rig: &Rig, index: usize) -> String {
    backend_addresses(&rig.lab, rig.lab.options().vips[0])[index].to_string()
}

/// Whether two files have the same generation; see the format.
fn of_last_generation(path: &Path, newest: &Path) -> bool {
    let generation = |path: &Path| fs::read(path).unwrap()[16..24].to_vec();
    generation(path) == generation(newest)
}

#[test]
fn a_file_of_another_version_is_set_aside() {
    let (mut rig, third) = rig_of_two();
    rig.lb(&["backend", "add", "web", &third]);
    rig.agent.kill().unwrap();
    for file in files(&directory(&rig)) {
        fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .write_all_at(&[0; 4], 8)
            .unwrap();
    }
    rig.agent.start_again().unwrap();
    assert_eq!(weights(&rig).len(), 2, "nothing is left but the file");
    let status = rig.agent.status().unwrap();
    let reasons: Vec<&str> = status
        .checkpoint
        .set_aside
        .iter()
        .map(|aside| aside.reason.as_str())
        .collect();
    assert!(
        !reasons.is_empty() && reasons.iter().all(|reason| reason.contains("format 0")),
        "{reasons:?}"
    );
}

#[test]
fn a_checkpoint_is_restored_like_any_change() {
    let (rig, third) = rig_of_two();
    let saved: Value = serde_json::from_str(&rig.lb(&["checkpoint", "save", "--json"])).unwrap();
    let number = saved["number"].to_string();
    let desired = weights(&rig);
    rig.lb(&["backend", "add", "web", &third]);
    let generation = rig.agent.status().unwrap().generation;

    rig.lb_refuses(4, &["checkpoint", "restore", &number, "--if-generation", "1"]);
    rig.lb_refuses(1, &["checkpoint", "restore", "4711"]);
    assert_eq!(weights(&rig).len(), 3);
    let current = generation.to_string();
    let said = rig.lb(&["checkpoint", "restore", &number, "--if-generation", &current]);
    assert!(
        said.contains("restored") && said.contains("not restored"),
        "{said}"
    );
    assert_eq!(weights(&rig), desired);
    assert_eq!(rig.agent.status().unwrap().generation, generation + 1);

    let listed: Value = serde_json::from_str(&rig.lb(&["checkpoint", "list", "--json"])).unwrap();
    let newest = &listed["checkpoints"][0];
    assert_eq!(newest["content"]["generation"], generation + 1);
    assert_eq!(newest["error"], Value::Null);
    let text = rig.lb(&["checkpoint", "list"]);
    assert!(text.contains("generation") && text.contains("good"), "{text}");
}

/// Writes until there is no room left.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
}

/// An agent on a state directory that is mounted in a peculiar way, which nobody outside sees: the mount namespace ends with
/// the agent.
struct Mounted {
    run: Process,
    directory: TempDir,
}

impl Mounted {
    /// Runs `mount` (a shell command, with the state directory as `$1`) before the agent.
    fn start(lab: &Lab, config: &str, directory: TempDir, mount: &str) -> Self {
        let here = directory.path();
        wait_until("the program of the agent before is gone", || {
            xdp_on(&lab.balancer.namespace, "eth0").is_empty()
        });
        fs::write(here.join("lb.toml"), config).unwrap();
        fs::create_dir_all(here.join("state")).unwrap();
        let mut command = Command::new("unshare");
        let script = format!(r#"{mount} && shift && exec "$@""#);
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
        command.arg(here.join("state")).arg(lb());
        command.args(["run", "--iface", "eth0", "--ephemeral", "--config"]);
        command.arg(here.join("lb.toml"));
        command.arg("--socket").arg(here.join("lb.sock"));
        command.arg("--state-dir").arg(here.join("state"));
        let log = fs::File::create(here.join("lb.log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let run = lab.balancer.namespace.spawn(command).unwrap();
        let mounted = Self { run, directory };
        wait_until("lb serves", || mounted.asks(&["list"]).status.success());
        mounted
    }

    fn asks(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(lb());
        command.args(arguments).arg("--socket");
        command
            .arg(self.directory.path().join("lb.sock"))
            .output()
            .unwrap()
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.asks(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lb {}: {errors}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> StatusView {
        serde_json::from_str(&self.ask(&["status", "--json"])).unwrap()
    }

    /// The state directory as the agent sees it.
    fn disk(&self) -> PathBuf {
        let state = self.directory.path().join("state");
        PathBuf::from(format!("/proc/{}/root{}", self.run.id(), state.display()))
    }
}

/// Mounts nothing: the state directory is like any other.
const PLAIN: &str = "true";
const READ_ONLY: &str = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1""#;
const SMALL: &str = r#"mount -t tmpfs -o size=256k tmpfs "$1""#;

#[test]
fn a_read_only_state_directory_is_gone_on_from() {
    let lab = lab(Forwarder::L2dsr, 2);
    let vip = lab.options().vips[0];
    let config = web(&lab, 2).to_string();
    let serving: Vec<_> = lab
        .backends
        .iter()
        .map(|host| super::support::rig::serve(&lab, host, &[PORT]))
        .collect();
    let first = Mounted::start(&lab, &config, TempDir::new().unwrap(), PLAIN);
    first.ask(&["backend", "add", "web", "192.0.2.77"]);
    let generation = first.status().generation;
    let Mounted { run, directory } = first;
    drop(run);

    let second = Mounted::start(&lab, &config, directory, READ_ONLY);
    assert_eq!(second.status().generation, generation);
    assert_eq!(second.status().backends, 3, "the change is there");
    wait_until("it is told that nothing can be saved", || {
        let warnings = second.status().warnings;
        warnings
            .iter()
            .any(|warning| warning.contains("Read-only file system"))
    });
    wait_until("two backends are up", || second.status().backends_up == 2);
    assert_eq!(requests(&lab.clients[0], SocketAddr::new(vip, PORT), 60).len(), 2);
    let said = second.ask(&["backend", "remove", "web", "192.0.2.77", "--now"]);
    assert!(said.contains("not saved"), "{said}");
    let Mounted { run, directory } = second;
    drop(run);

    // One that finds no checkpoints there starts as well.
    fs::remove_dir_all(directory.path().join("state")).unwrap();
    let third = Mounted::start(&lab, &config, directory, READ_ONLY);
    wait_until("both backends are up", || third.status().backends_up == 2);
    drop(serving);
}

/// Earlier checkpoints fill the disk before there are as many as are to be kept: every change is saved all the same.
#[test]
fn old_checkpoints_make_room_for_new_ones() {
    let lab = lab(Forwarder::L2dsr, 2);
    let config = format!("[checkpoint]\nkeep = 1000\n{}", web(&lab, 2).key("slots", 4096));
    let mounted = Mounted::start(&lab, &config, TempDir::new().unwrap(), SMALL);
    let address = backend_addresses(&lab, lab.options().vips[0])[0].to_string();
    let mut written = 0;
    for change in 0_u64.. {
        let weight = (change % 100 + 1).to_string();
        let said = mounted.ask(&["backend", "set", "web", &address, "--weight", &weight]);
        assert!(
            !said.contains("not saved"),
            "change {change}, after {written} bytes: {said}"
        );
        let status = mounted.status();
        let last = status.checkpoint.last.unwrap();
        assert_eq!(
            (last.generation, status.checkpoint.failing_since),
            (status.generation, None)
        );
        written += last.bytes;
        if written > 1 << 20 {
            break;
        }
    }
    let kept = files(&mounted.disk().join("checkpoints"));
    assert!(kept.len() > 5, "no more goes than need be: {kept:?}");
}

#[test]
fn a_clock_that_is_ahead_at_the_start_ends_no_drain() {
    let (mut rig, _) = rig_of_two();
    let target = SocketAddr::new(rig.lab.options().vips[0], PORT);
    let mut held = HeldConnections::open(rig.client(), target, 40);
    let before = held.ask();
    assert!(before.iter().all(Result::is_ok), "{before:?}");
    let first = backend(&rig, 0);
    rig.lb(&["backend", "drain", "web", &first, "--deadline", "1d"]);
    for ahead in [YEAR / 180, YEAR, std::time::Duration::ZERO] {
        // To the agent that starts the clock is that much ahead.
        rig.agent.kill().unwrap();
        lb_fixture::redate_all(&directory(&rig), SystemTime::now() - ahead).unwrap();
        rig.agent.start_again().unwrap();
        rig.wait_for_state("web", first.parse().unwrap(), BackendState::Drain);
        let after = held.ask();
        let broken = after
            .iter()
            .zip(&before)
            .filter(|(after, before)| after != before);
        assert_eq!(broken.count(), 0, "of 40 connections, {ahead:?} ahead: {after:?}");
        let left = rig
            .backend("web", first.parse().unwrap())
            .drain
            .unwrap()
            .ends_in_seconds;
        assert!(
            left > 80_000.0 && left <= 86_400.0,
            "{ahead:?} ahead: {left} s are left"
        );
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let lab = lab(Forwarder::L2dsr, 2);
    let vip = lab.options().vips[0];
    let third = "192.0.2.77";
    let serving: Vec<_> = lab
        .backends
        .iter()
        .map(|host| super::support::rig::serve(&lab, host, &[PORT]))
        .collect();
    // A small disk.
    let config = web(&lab, 2).to_string();
    let mounted = Mounted::start(&lab, &config, TempDir::new().unwrap(), SMALL);
    let disk = mounted.disk();
    let ask = |arguments: &[&str]| mounted.ask(arguments);
    let status = || mounted.status();
    wait_until("both backends are up", || status().backends_up == 2);
    ask(&["checkpoint", "save"]);

    // Nothing is left of lb's that could make room.
    for older in files(&disk.join("checkpoints")).iter().skip(1) {
        fs::remove_file(older).unwrap();
    }
    let filler = disk.join("filler");
    fill(&filler);
    let kept: Vec<_> = files(&disk.join("checkpoints"))
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();

    let said = ask(&["backend", "add", "web", third]);
    assert!(said.contains("not saved"), "{said}");
    let StatusView {
        checkpoint, warnings, ..
    } = status();
    let reason = checkpoint.failing_reason.unwrap();
    assert!(
        reason.contains("No space left") && reason.contains("make room"),
        "{reason}"
    );
    assert!(checkpoint.failing_since.is_some());
    assert!(
        warnings.iter().any(|warning| warning.contains("No space left")),
        "{warnings:?}"
    );
    assert!(!mounted.asks(&["checkpoint", "save"]).status.success());
    for (content, path) in &kept {
        assert_eq!(
            &fs::read(path).unwrap(),
            content,
            "{} is as it was",
            path.display()
        );
    }
    ask(&["backend", "remove", "web", third, "--now"]);
    assert_eq!(requests(&lab.clients[0], SocketAddr::new(vip, PORT), 60).len(), 2);

    fs::remove_file(&filler).unwrap();
    wait_until("it is saved again", || {
        status().checkpoint.failing_since.is_none()
    });
    let generation = status().generation;
    assert_eq!(status().checkpoint.last.unwrap().generation, generation);
    drop(serving);
}

#[test]
fn tables_that_cannot_be_restored_are_told_and_made_anew() {
    let lab = lab(Forwarder::L2dsr, 2);
    let sized = |dataplane: &str, slots: u32| {
        let web = web(&lab, 2).key("slots", slots);
        format!("[dataplane]\n{dataplane}\n{web}")
    };
    let roomy = sized("max_slots = 131072", 65536);
    let other_seed = sized("max_slots = 131072\nhash_seed = 7", 65536);
    let narrow = sized("max_slots = 65536\nhash_seed = 7", 64);
    let target = SocketAddr::new(lab.options().vips[0], PORT);
    let mut rig = Rig::new(lab, &roomy);
    for (config, said) in [(other_seed, "leave --hash-seed"), (narrow, "raise `max_slots`")] {
        // A second table, which has no room where there is room for one.
        let more =
            "service add more --vip 192.0.2.99 --protocol udp --port 53 --forwarder ipip --slots 65536";
        rig.lb(&more.split(' ').collect::<Vec<_>>());
        rig.lb(&["stop", "--detach"]);
        assert!(rig.agent.process().wait(LIMIT).unwrap().success());
        rig.write_config(&config);
        rig.agent.start_again().unwrap();
        let log = rig.agent.log_end();
        assert!(log.contains(said), "no {said} in: {log}");
        rig.wait_until_all_up();
        assert_eq!(requests(rig.client(), target, 60).len(), 2);
    }
}

#[test]
fn a_file_that_was_cut_short_is_not_obeyed_unless_that_is_meant() {
    let (mut rig, _) = rig_of_two();
    let target = SocketAddr::new(rig.lab.options().vips[0], PORT);
    let mut held = HeldConnections::open(rig.client(), target, 20);
    let whose: Vec<String> = held.ask().into_iter().collect::<Result<_, _>>().unwrap();
    let mut hold = || {
        let now: Vec<String> = held.ask().into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(now, whose);
    };
    rig.write_config(&"");
    let refused = rig.lb_refuses(1, &["reload"]);
    assert!(
        refused.contains("service web") && refused.contains("--force"),
        "{refused}"
    );
    hold();
    rig.agent.process().signal(Signal::SIGHUP).unwrap();
    wait_until("the log says that nothing was changed", || {
        rig.agent.log_end().contains("not reloaded, nothing changed")
    });
    hold();
    // A start goes on from what it knows, and says so.
    kill_and_start_again(&mut rig);
    hold();
    let status = rig.agent.status().unwrap();
    assert!(
        status
            .warnings
            .iter()
            .any(|warning| warning.contains("lb reload --force")),
        "{:?}",
        status.warnings
    );
    let done: Value = serde_json::from_str(&rig.lb(&["reload", "--force", "--json"])).unwrap();
    assert_eq!(done["removed"], serde_json::json!(["service web"]));
    let status = rig.agent.status().unwrap();
    assert_eq!(
        (
            status.services,
            status.warnings.iter().any(|warning| warning.contains("--force"))
        ),
        (0, false)
    );
}
