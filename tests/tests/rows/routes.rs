//! The host's routes: what the test's tables answer, and what the kernel is told so that it answers the same.

use std::{collections::BTreeMap, net::IpAddr, process::Command, sync::Arc};

use anyhow::{Result, ensure};
use lb_common::{abi::TagsEntry, pipeline::Route};
use lb_lab::Namespace;
use lb_userspace::netlink::{Upper, Uppers};
use lb_world::{Interfaces, ROUTER_MAC, add_interfaces, to_router};

const FRONT: &str = "front";
const BACK: &str = "back";
/// Clients behind the router.
const CLIENTS: [&str; 2] = ["198.51.100.50", "2001:db8:c::50"];
/// The balancer's own addresses on its front interface.
const OWN: [&str; 2] = ["198.51.100.1", "2001:db8:c::1"];
/// On the front network, but nobody has asked for their MAC addresses.
const SILENT: [&str; 2] = ["198.51.100.200", "2001:db8:c::200"];
/// Without a route; the kernel answers as for its own addresses.
const NOWHERE: [&str; 2] = ["100.64.0.1", "2001:db8:dd::1"];
/// Behind routes that send nothing.
const FORBIDDEN: [&str; 2] = ["203.0.115.9", "2001:db8:f1::9"];
/// Behind the back interface.
const BEHIND_BACK: [&str; 2] = ["203.0.113.9", "2001:db8:ee::9"];
/// Behind an interface that stands for a VLAN device on the front one.
const BEHIND_VLAN: [&str; 2] = ["203.0.114.9", "2001:db8:f0::9"];
const VLAN_DEVICE: &str = "vlan";
/// Its VLAN.
pub(crate) const VLAN: u16 = 100;
/// The back interface's MTU; IPv6 knows none below 1,280.
pub(crate) const BACK_MTU: usize = 1280;

/// The route of a packet of `len` bytes to `destination`.
pub(crate) fn route(destination: IpAddr, len: usize, interfaces: Interfaces) -> Route {
    let is = |addresses: [&str; 2]| addresses.iter().any(|a| a.parse() == Ok(destination));
    if is(OWN) || is(NOWHERE) {
        return Route::Local;
    }
    if is(SILENT) {
        return Route::NoNeighbour;
    }
    if is(FORBIDDEN) {
        return Route::None;
    }
    if is(BEHIND_BACK) && len > BACK_MTU {
        return Route::TooBig(BACK_MTU as u16);
    }
    let egress = if is(BEHIND_BACK) {
        interfaces.back
    } else {
        interfaces.front
    };
    let tags = if is(BEHIND_VLAN) {
        TagsEntry::one(VLAN)
    } else {
        TagsEntry::NONE
    };
    to_router(egress, tags)
}

/// What an agent would tell the program of such interfaces.
pub(crate) fn uppers(interfaces: Interfaces) -> Uppers {
    let vlan = Upper {
        interface: interfaces.front,
        tags: TagsEntry::one(VLAN),
        addresses: Vec::new(),
    };
    Arc::new(BTreeMap::from([(interfaces.tagged, vlan)]))
}

/// Gives the namespace the interfaces, addresses and routes that make its kernel answer as [`route`] does.
pub(crate) fn set_up(namespace: &Namespace) -> Result<Interfaces> {
    for forbidden in FORBIDDEN {
        let mut ip = Command::new("ip");
        ip.args(["route", "add", "unreachable", forbidden]);
        let status = namespace.run(|| ip.status())??;
        ensure!(status.success(), "{ip:?} ended with {status}");
    }
    namespace.netlink(async |netlink| {
        let devices = [(FRONT, 1500), (BACK, BACK_MTU as u32), (VLAN_DEVICE, 1500)];
        let interfaces = add_interfaces(netlink, devices).await?;
        for (interface, address, prefix) in [
            (FRONT, OWN[0], 24),
            (FRONT, OWN[1], 64),
            (BACK, "203.0.113.1", 24),
            (BACK, "2001:db8:ee::1", 64),
            (VLAN_DEVICE, "203.0.114.1", 24),
            (VLAN_DEVICE, "2001:db8:f0::1", 64),
        ] {
            netlink.add_address(interface, address.parse()?, prefix).await?;
        }
        for (interface, addresses) in [(FRONT, CLIENTS), (BACK, BEHIND_BACK), (VLAN_DEVICE, BEHIND_VLAN)] {
            for address in addresses {
                netlink
                    .add_neighbour(interface, address.parse()?, ROUTER_MAC)
                    .await?;
            }
        }
        Ok(interfaces)
    })
}
