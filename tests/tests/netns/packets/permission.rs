//! Clients that may use a service, and clients that may not.

use std::net::{IpAddr, SocketAddr};

use lb_lab::{Forwarder, Host, Lab, LabOptions, traffic::http};

use super::{Rig, get, services};
use crate::support::{LIMIT, PORT, SILENCE};

fn served(client: &Host, vip: IpAddr) -> bool {
    let target = SocketAddr::new(vip, PORT);
    http::fetch(&client.namespace, target, get("/"), SILENCE).is_ok()
}

#[test]
fn the_longest_prefix_decides_who_is_served() {
    let lab = Lab::new(LabOptions {
        clients: 2,
        backends: 1,
        ..LabOptions::new(Forwarder::L2dsr)
    })
    .unwrap();
    let [first, second] = [0, 1].map(|i| lab.clients[i].clone());
    let list = |host: &Host| format!("\"{}\", \"{}\"", host.ipv4, host.ipv6);
    let everybody = "\"10.1.0.0/24\", \"fd01::/64\"";
    let deny = format!("{{ deny = [{}] }}", list(&second));
    let config =
        |lab: &Lab, source: &str| services(lab, Forwarder::L2dsr, |service| service.key("source", source));
    let rig = Rig::new(lab, &"");
    let vips = rig.lab.options().vips.clone();
    let becomes = |source: &str| {
        rig.write_config(&config(&rig.lab, source));
        rig.lb(&["reload"]);
        rig.wait_until_all_up();
    };

    becomes(&deny);
    for &vip in &vips {
        assert!(served(&first, vip), "{vip}");
        assert!(!served(&second, vip), "{vip}");
    }
    assert!(rig.count("denied") >= 2);

    becomes(&format!(
        "{{ allow = [{}], deny = [{everybody}] }}",
        list(&second)
    ));
    for &vip in &vips {
        assert!(!served(&first, vip), "{vip}");
        assert!(served(&second, vip), "{vip}");
    }

    // Without lists, everybody is served again, and nothing more is denied.
    rig.lb(&["service", "set", "four", "--no-source"]);
    rig.lb(&["service", "set", "six", "--no-source"]);
    let before = rig.count("denied");
    for &vip in &vips {
        for client in [&first, &second] {
            let target = SocketAddr::new(vip, PORT);
            http::fetch(&client.namespace, target, get("/"), LIMIT).unwrap();
        }
    }
    assert_eq!(rig.count("denied"), before);
}
