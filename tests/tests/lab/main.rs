//! The lab itself, without `lb`: hosts talk, tunnels end, and nothing outlives its owner.
//!
//! These tests need root (network namespaces, XDP); they fail without it.
#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test's own steps is a failure of the test"
)]

mod lifetime;
mod traffic;
mod wire;

use std::{
    thread,
    time::{Duration, Instant},
};

use hyper::Request;
use lb_lab::{
    Forwarder, Host, Lab, LabOptions,
    traffic::{http, server::Server},
};

const PORT: u16 = 8080;
const SECOND: Duration = Duration::from_secs(1);
/// How long anything that happens in the background may take.
const LIMIT: Duration = Duration::from_secs(10);

fn lab(forwarder: Forwarder, backends: usize) -> Lab {
    Lab::new(LabOptions {
        backends,
        ..LabOptions::new(forwarder)
    })
    .unwrap()
}

fn serve(lab: &Lab, backend: &Host) -> Server {
    Server::start(
        &backend.namespace,
        &backend.name,
        &lab.listen_addresses(backend, PORT),
    )
    .unwrap()
}

fn get(path: &str) -> Request<http::Body> {
    Request::get(path)
        .header("host", "lab")
        .body(http::Body::default())
        .unwrap()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
