//! Dummy devices: they hold a backend's VIPs, and nothing comes in by them.

use lb_lab::Forwarder;

use super::{refused, serves, sh, start};
use crate::support;

#[test]
#[ignore = "needs dummy devices: cargo xtask kernels"]
fn backends_with_their_vips_on_a_dummy_device() {
    for forwarder in [Forwarder::L2dsr, Forwarder::Ipip] {
        let lab = support::lab(forwarder, 2);
        for backend in &lab.backends {
            let moved: String = lab.options().vips.iter().fold(String::new(), |script, vip| {
                script + &format!("ip addr del {vip} dev lo; ip addr add {vip} dev vips\n")
            });
            sh(
                &backend.namespace,
                &format!("ip link add vips type dummy; ip link set vips up\n{moved}"),
            );
        }
        serves(&start(lab, "native"));
    }
}

#[test]
#[ignore = "needs dummy devices: cargo xtask kernels"]
fn a_dummy_device_is_refused_natively() {
    let stack = ["ip link add eth0 type dummy".to_owned()];
    refused(&stack, "native", &["driver dummy has no native XDP"]);
}
