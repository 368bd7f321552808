//! Where packets to an address go: the verdict that the dataplane's header templates are made from. It is a pure
//! function of what the kernel said about routes, interfaces and neighbours.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::abi::TagsEntry;

use super::link::Link;
use super::neighbour::{NeighbourTable, Reachability};
use super::route::Route;
use super::upper::{Egress, egress};

/// The next hop toward an address, complete enough to write an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The interface that frames leave through; not a VLAN device, but what that lies on.
    pub interface_index: u32,
    /// The tags that frames carry there.
    pub tags: TagsEntry,
    /// The MAC address of the gateway or of the host itself.
    pub destination_mac: [u8; 6],
    /// The MAC address of the interface.
    pub source_mac: [u8; 6],
    /// The largest IP packet that fits, in bytes: the smaller of the interface's and the route's MTU, where the
    /// route's includes a path MTU that the kernel has learned.
    pub mtu: u32,
    /// The gateway; `None` when the address is on the link.
    pub gateway: Option<IpAddr>,
}

/// Whether packets can be sent to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// They can, through this next hop.
    Resolved(NextHop),
    /// They stay here: the address is this host's own.
    Own,
    /// They cannot.
    Unresolved {
        /// Why not, in an operator's words.
        reason: String,
    },
}

/// What the kernel says of an address at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FoundRoute {
    /// A way.
    Way(Resolution),
    /// None, for that reason.
    None {
        reason: String,
        /// The next hop that the kernel has asked for in vain.
        silent: Option<IpAddr>,
    },
}

impl From<FoundRoute> for Resolution {
    fn from(found: FoundRoute) -> Self {
        match found {
            FoundRoute::Way(way) => way,
            FoundRoute::None { reason, .. } => Self::Unresolved { reason },
        }
    }
}

impl Resolution {
    /// The next hop, if there is one.
    #[must_use]
    pub fn next_hop(&self) -> Option<&NextHop> {
        match self {
            Self::Resolved(next_hop) => Some(next_hop),
            Self::Own | Self::Unresolved { .. } => None,
        }
    }

    /// Whether packets find somebody.
    #[must_use]
    pub fn is_way(&self) -> bool {
        matches!(self, Self::Resolved(_) | Self::Own)
    }
}

/// Decides about `address`. `last_interface` is the one that its last usable route went over.
pub(super) fn resolve(
    address: IpAddr,
    route: &Route,
    last_interface: Option<u32>,
    links: &HashMap<u32, Link>,
    neighbours: &NeighbourTable,
) -> FoundRoute {
    match resolution(address, route, last_interface, links, neighbours) {
        Ok(way) => FoundRoute::Way(way),
        Err(NoWay { reason, silent }) => FoundRoute::None { reason, silent },
    }
}

/// Why there is no way.
struct NoWay {
    reason: String,
    /// The neighbour that the kernel has asked for in vain.
    silent: Option<IpAddr>,
}

impl From<String> for NoWay {
    fn from(reason: String) -> Self {
        Self { reason, silent: None }
    }
}

fn resolution(
    address: IpAddr,
    route: &Route,
    last_interface: Option<u32>,
    links: &HashMap<u32, Link>,
    neighbours: &NeighbourTable,
) -> Result<Resolution, NoWay> {
    let (interface_index, gateway, route_mtu) = match *route {
        Route::Forward {
            interface_index,
            gateway,
            mtu,
        } => (interface_index, gateway, mtu),
        Route::Local => return Ok(Resolution::Own),
        Route::Refused(why) => {
            // Routes vanish with their interface, which is then what the operator wants to know.
            let lost = last_interface
                .and_then(|index| links.get(&index))
                .filter(|link| !link.up);
            let reason = match lost {
                Some(link) => format!("no route to {address}: interface {} is down", link.name),
                None => format!("no route to {address}: {why}"),
            };
            return Err(reason.into());
        }
        Route::Unknown(ref error) => {
            return Err(format!("cannot look up the route to {address}: {error}").into());
        }
    };
    let Some(link) = links.get(&interface_index) else {
        return Err(
            format!("route to {address} goes over interface {interface_index}, which is gone").into(),
        );
    };
    let name = &link.name;
    if !link.up {
        return Err(format!("interface {name} is down").into());
    }
    if !link.carrier {
        return Err(format!("interface {name} has no carrier").into());
    }
    let Some(source_mac) = link.mac else {
        return Err(format!("route to {address} goes over {name}, which is no Ethernet interface").into());
    };
    let neighbour = Route::neighbour(route, address).ok_or_else(|| format!("no route to {address}"))?;
    let destination_mac = match neighbours.reachability(&neighbour) {
        Reachability::Known(mac) => *mac,
        Reachability::Pending => {
            return Err(format!(
                "neighbour {} on {name} has not answered yet (INCOMPLETE)",
                neighbour.address
            )
            .into());
        }
        Reachability::Failed => {
            return Err(NoWay {
                reason: format!(
                    "neighbour {} on {name} does not answer (FAILED)",
                    neighbour.address
                ),
                silent: Some(neighbour.address),
            });
        }
        Reachability::Refused(error) => {
            return Err(format!(
                "neighbour {} on {name} cannot be looked up: {error}",
                neighbour.address
            )
            .into());
        }
    };
    let mtu = route_mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
    let Egress { interface, tags } = egress(link, links)?;
    Ok(Resolution::Resolved(NextHop {
        interface_index: interface,
        tags,
        destination_mac,
        source_mac,
        mtu,
        gateway,
    }))
}
