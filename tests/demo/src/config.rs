//! The configuration that the demo's agent runs with.

use std::net::IpAddr;

use lb_lab::Forwarder;

/// The port that clients connect to.
pub(super) const SERVICE_PORT: u16 = 80;
/// The port of the backends where the forwarder translates ports.
const NAT_PORT: u16 = 8080;

/// The port that the backends listen on.
pub(super) const fn backend_port(forwarder: Forwarder) -> u16 {
    match forwarder {
        Forwarder::Nat => NAT_PORT,
        _ => SERVICE_PORT,
    }
}

/// One TCP service on `vip`, with a TCP check twice a second and equal weights. `own` is the balancer's address, for
/// backends that see it.
pub(super) fn config(forwarder: Forwarder, vip: IpAddr, backends: &[IpAddr], own: IpAddr) -> String {
    let mut text = if forwarder == Forwarder::Fullnat {
        format!("[dataplane]\nfullnat_addresses = [\"{own}\"]\n\n")
    } else {
        String::new()
    };
    text += &format!(
        r#"[[service]]
name = "web"
vips = ["{vip}"]
protocol = "tcp"
port = {SERVICE_PORT}
forwarder = "{}"

[service.check]
type = "tcp"
interval = "500ms"
timeout = "300ms"
rise = 2
fall = 2
"#,
        forwarder.name()
    );
    for address in backends {
        text += &format!("\n[[service.backend]]\naddress = \"{address}\"\nweight = 1\n");
        if forwarder == Forwarder::Nat {
            text += &format!("port = {NAT_PORT}\n");
        }
    }
    text
}
