//! What the tests share: a lab with servers and a running agent, and the traffic that goes through it.

mod config;
mod frames;
mod held;
mod ping;
pub(crate) mod rig;
mod run;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use hyper::Request;
use lb_lab::{
    Forwarder, Host, Lab, LabOptions, Namespace,
    patience::patient,
    traffic::{
        http,
        load::{Load, LoadOptions, Record},
    },
};
use lb_userspace::netlink::{AttachedXdp, find_interface};

pub(crate) use config::{FAST_CHECK, NO_CHECK, Service};
pub(crate) use frames::{Capture, send_to};
pub(crate) use held::HeldConnections;
pub(crate) use ping::{allow_ping, ping};
pub(crate) use rig::Rig;
pub(crate) use run::LbRun;

/// The port that clients ask for, and that servers listen on unless a test says otherwise.
pub(crate) const PORT: u16 = 80;
/// How long anything may take that happens in the background, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// How old a checkpoint is made, or how far ahead of now it is dated: longer than any drain.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long a test waits for what must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(700);

/// How many requests came from whom.
pub(crate) type Shares = BTreeMap<String, usize>;

pub(crate) fn lab(forwarder: Forwarder, backends: usize) -> Lab {
    Lab::new(LabOptions {
        backends,
        ..LabOptions::new(forwarder)
    })
    .unwrap()
}

/// An agent with an `l2dsr` service of two backends without checks, and where clients find it.
pub(crate) fn serving() -> (Rig, SocketAddr) {
    let lab = lab(Forwarder::L2dsr, 2);
    let vip = lab.options().vips[0];
    let web = Service::new(Forwarder::L2dsr, &[vip])
        .key("check", NO_CHECK)
        .backends(&backend_addresses(&lab, vip));
    (Rig::new(lab, &web), SocketAddr::new(vip, PORT))
}

/// The addresses of all backends, of the family of `like`.
pub(crate) fn backend_addresses(lab: &Lab, like: IpAddr) -> Vec<IpAddr> {
    lab.backends.iter().map(|host| host.address_like(like)).collect()
}

/// The XDP programs on an interface, as the kernel tells by netlink.
pub(crate) fn xdp_on(namespace: &Namespace, interface: &str) -> Vec<AttachedXdp> {
    let found = namespace
        .block_on(async || find_interface(interface).await)
        .unwrap();
    found.unwrap().xdp
}

/// The name of the server that answers one request from `client`.
pub(crate) fn server_for(client: &Host, target: SocketAddr) -> String {
    let answer = http::fetch(&client.namespace, target, get("/"), LIMIT).unwrap();
    http::backend_of(&answer).unwrap().to_owned()
}

/// Sends `count` requests, each over a connection of its own; every one must succeed.
pub(crate) fn requests(client: &Host, target: SocketAddr, count: u64) -> Shares {
    let options = LoadOptions {
        rate: 400,
        requests: count,
        ..patient_load(target)
    };
    shares(&Load::start(&client.namespace, options).unwrap().wait().unwrap())
}

/// A load that goes on until it is stopped, and outwaits a busy machine and a few lost packets.
pub(crate) fn patient_load(target: SocketAddr) -> LoadOptions {
    LoadOptions {
        timeout: Duration::from_secs(10),
        ..LoadOptions::new(target, 200, 100_000)
    }
}

/// Who answered how many requests; all must have been answered.
pub(crate) fn shares(records: &[Record]) -> Shares {
    let mut shares = Shares::new();
    for record in records {
        let server = record.outcome.as_ref().unwrap_or_else(|failure| {
            panic!("request {} of {}: {failure}", record.connection, records.len())
        });
        *shares.entry(server.clone()).or_default() += 1;
    }
    shares
}

pub(crate) fn get(path: &str) -> Request<http::Body> {
    Request::get(path)
        .header("host", "lab")
        .body(http::Body::default())
        .unwrap()
}

/// Runs `ip` in the namespace; it must succeed.
pub(crate) fn ip(namespace: &Namespace, words: &str) {
    let run = || {
        Command::new("ip")
            .args(words.split_whitespace())
            .output()
            .unwrap()
    };
    let output = namespace.run(run).unwrap();
    assert!(output.status.success(), "ip {words}: {output:?}");
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patient(LIMIT);
    while !condition() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
