//! The UDP check against a real server: a datagram over the wire, and its echo.

use lb_api::view::BackendState;
use lb_lab::Forwarder;

use super::support::{Rig, Service, backend_addresses, lab};

/// The lab's servers echo datagrams, with their own name in front.
const CHECK: &str = r#"{ type = "udp", payload = "are you there?", expect = "1 are you there?", interval = "200ms", fast_interval = "50ms", timeout = "3s", rise = 2, fall = 2 }"#;

#[test]
fn a_server_that_answers_datagrams_is_up_until_it_ends() {
    let lab = lab(Forwarder::L2dsr, 1);
    let vip = lab.options().vips[0];
    let addresses = backend_addresses(&lab, vip);
    let service = Service::new(Forwarder::L2dsr, &[vip])
        .text("protocol", "udp")
        .key("check", CHECK)
        .backends(&addresses);
    let mut rig = Rig::new(lab, &service);
    rig.wait_for_state("web", addresses[0], BackendState::Up);
    rig.kill_server(0);
    rig.wait_for_state("web", addresses[0], BackendState::Down);
    let reason = rig.backend("web", addresses[0]).reason.unwrap_or_default();
    assert!(reason.contains("port unreachable"), "{reason}");
    rig.revive_server(0);
    rig.wait_for_state("web", addresses[0], BackendState::Up);
}
