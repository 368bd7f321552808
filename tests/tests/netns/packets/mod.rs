//! Packets that are not the common ones, with real sockets at both ends: narrow paths, fragments, TTLs that run out,
//! refusals, many addresses and ports, VLAN tags.

mod fragments;
mod path;
mod permission;
mod refusal;
mod trace;
mod vlan;
mod wide;

use std::net::IpAddr;

use hyper::{Request, body::Bytes};
use lb_lab::{Forwarder, Lab, LabOptions, Mtu, traffic::http};

use super::support::{LIMIT, Rig, Service, backend_addresses, get};

/// Nothing on the wire takes more than 1500 bytes, as on an Ethernet that nobody has tuned.
fn narrow(forwarder: Forwarder) -> Lab {
    Lab::new(LabOptions {
        backends: 1,
        mtu: Mtu {
            client: 1500,
            balancer: 1500,
            backend: 1500,
        },
        ..LabOptions::new(forwarder)
    })
    .unwrap()
}

/// A service for each VIP with all backends, by their addresses of the VIP's family.
fn services(lab: &Lab, forwarder: Forwarder, change: impl Fn(Service) -> Service) -> String {
    let vips = lab.options().vips.iter();
    vips.map(|vip| change(service(lab, forwarder, *vip, *vip)).to_string())
        .collect()
}

/// A service for `vip` with all backends, by their addresses of the family of `like`.
fn service(lab: &Lab, forwarder: Forwarder, vip: IpAddr, like: IpAddr) -> Service {
    Service::new(forwarder, &[vip])
        .text("name", if vip.is_ipv4() { "four" } else { "six" })
        .backends(&backend_addresses(lab, like))
}

/// Ten megabytes from the server, and ten to it.
fn transfer(rig: &Rig, vip: IpAddr) {
    const BYTES: usize = 10 << 20;
    let target = std::net::SocketAddr::new(vip, super::support::PORT);
    let client = &rig.client().namespace;
    let download = get(&format!("/big?bytes={BYTES}"));
    let answer = http::fetch(client, target, download, LIMIT).unwrap();
    assert_eq!(answer.body().len(), BYTES, "{target}");
    let upload = Request::post("/").header("host", "lab");
    let upload = upload.body(Bytes::from(vec![7; BYTES]).into()).unwrap();
    let answer = http::fetch(client, target, upload, LIMIT).unwrap();
    assert_eq!(answer.body(), BYTES.to_string().as_bytes(), "{target}");
}
