//! Backends of one service that are reached in different ways, and the balancer as a backend of its own.

use std::{net::SocketAddr, process::Command};

use lb_api::view::BackendState;
use lb_lab::{Forwarder, Host, Lab, Netlink, process::Process, traffic::server::Server};

use super::support::{
    HeldConnections, NO_CHECK, PORT, Rig, Service, backend_addresses, lab, requests, rig::lb, server_for,
    wait_until, xdp_on,
};

/// Lets backends that own the VIPs take tunnels of every kind, too, until it is dropped.
fn end_tunnels(lab: &Lab) -> Vec<Process> {
    let start = |backend: &Host| {
        let mut command = Command::new(lb());
        command.args(["decap", "--iface", "eth0"]);
        let process = backend.namespace.spawn(command).unwrap();
        wait_until("lb decap is attached", || {
            xdp_on(&backend.namespace, "eth0").len() == 1
        });
        process
    };
    lab.backends.iter().map(start).collect()
}

#[test]
fn backends_of_one_service_take_forwarders_of_their_own() {
    let lab = lab(Forwarder::L2dsr, 5);
    let _decaps = end_tunnels(&lab);
    let mut config = String::new();
    for &vip in &lab.options().vips {
        let mut service =
            Service::new(Forwarder::Gue, &[vip]).text("name", if vip.is_ipv4() { "web4" } else { "web6" });
        let own = ["", "fou", "gre", "ipip", "l2dsr"];
        for (address, own) in backend_addresses(&lab, vip).into_iter().zip(own) {
            service = match own {
                "" => service.backend(address),
                own => service.backend_with(address, &format!(", forwarder = \"{own}\"")),
            };
        }
        config += &service.to_string();
    }
    let rig = Rig::new(lab, &config);
    for &vip in &rig.lab.options().vips {
        let shares = requests(rig.client(), SocketAddr::new(vip, PORT), 100);
        assert_eq!(shares.len(), 5, "{vip}: {shares:?}");
    }
}

#[test]
fn a_backend_changes_its_forwarder_and_keeps_its_connections() {
    let lab = lab(Forwarder::L2dsr, 1);
    let _decaps = end_tunnels(&lab);
    let vip = lab.options().vips[0];
    let address = backend_addresses(&lab, vip)[0];
    let config = Service::new(Forwarder::Gue, &[vip]).backend(address);
    let rig = Rig::new(lab, &config);
    let target = SocketAddr::new(vip, PORT);
    let mut held = HeldConnections::open(rig.client(), target, 20);
    for forwarder in ["gre", "l2dsr", "fou"] {
        let address = address.to_string();
        rig.lb(&["backend", "set", "web", &address, "--forwarder", forwarder]);
        for answer in held.ask() {
            assert_eq!(answer.as_deref(), Ok("backend-1"), "{forwarder}");
        }
        assert_eq!(server_for(rig.client(), target), "backend-1", "{forwarder}");
    }
}

#[test]
fn the_balancer_serves_as_a_backend_of_its_own() {
    let lab = lab(Forwarder::L2dsr, 1);
    let vips = lab.options().vips.clone();
    let give_vips = async |netlink: &Netlink| {
        for &vip in &vips {
            netlink
                .add_address("lo", vip, if vip.is_ipv4() { 32 } else { 128 })
                .await?;
        }
        Ok(())
    };
    lab.balancer.namespace.netlink(give_vips).unwrap();
    let listen: Vec<SocketAddr> = vips.iter().map(|vip| SocketAddr::new(*vip, PORT)).collect();
    let own = Server::start(&lab.balancer.namespace, "balancer", &listen).unwrap();
    let mut config = String::new();
    for &vip in &vips {
        let service = Service::new(Forwarder::L2dsr, &[vip])
            .text("name", if vip.is_ipv4() { "web4" } else { "web6" })
            .key("check", NO_CHECK)
            .backend(backend_addresses(&lab, vip)[0])
            .backend_with(lab.balancer.address_like(vip), ", forwarder = \"local\"");
        config += &service.to_string();
    }
    let rig = Rig::new(lab, &config);
    for &vip in &vips {
        let target = SocketAddr::new(vip, PORT);
        let shares = requests(rig.client(), target, 60);
        let names: Vec<&str> = shares.keys().map(String::as_str).collect();
        assert_eq!(names, ["backend-1", "balancer"], "{target}: {shares:?}");
        let service = if vip.is_ipv4() { "web4" } else { "web6" };
        let local = rig.backend(service, rig.lab.balancer.address_like(vip));
        assert!(local.flows >= shares["balancer"] as u64, "{local:?}");
    }
    drop(own);
}

#[test]
fn local_backends_are_the_balancers_own_addresses() {
    let lab = lab(Forwarder::L2dsr, 1);
    let vip = lab.options().vips[0];
    let (backend, own) = (backend_addresses(&lab, vip)[0], lab.balancer.address_like(vip));
    let config = Service::new(Forwarder::L2dsr, &[vip])
        .key("check", NO_CHECK)
        .backend_with(backend, ", forwarder = \"local\"")
        .backend(own);
    let rig = Rig::on_ports(lab, &config, &[PORT]);
    for (address, reason) in [
        (backend, "the local forwarder needs one that is"),
        (own, "only the local forwarder leaves packets to it"),
    ] {
        wait_until(&format!("{address} is unresolved: {reason}"), || {
            let view = rig.backend("web", address);
            let said = view.reason.clone().unwrap_or_default();
            view.state == BackendState::Unresolved && said.contains(reason)
        });
    }
}
