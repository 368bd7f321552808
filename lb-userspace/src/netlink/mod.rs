//! Everything the agent asks the kernel about the network: next hops, interfaces, forwarding settings. It speaks of
//! the network namespace of the thread that asks, and changes nothing there but the freshness of neighbour entries.

mod address;
mod carrier;
mod devices;
mod ethtool;
mod interface;
mod kept;
mod leading_out;
mod link;
mod looked_up;
mod macs;
mod monitor;
mod neighbour;
mod neighbour_limit;
mod next_hop;
mod queues;
mod resolver;
mod route;
mod socket;
mod sysctl;
#[cfg(test)]
mod tests;
mod upper;
mod view;
mod words;
mod xdp_features;

pub use address::own_addresses;
pub use carrier::Carrier;
pub use devices::{Devices, find_carrier, watch_devices};
pub(crate) use ethtool::merging;
pub use interface::{
    AttachedXdp, Interface, InterfaceError, XdpMode, common_vrf, find_interface, interface_name, interfaces,
    vrf_of,
};
pub use kept::RouteNeed;
pub use leading_out::{LeadsOut, leading_out};
pub use macs::Macs;
pub(crate) use macs::macs_at;
pub use neighbour_limit::most_neighbours;
pub use next_hop::{NextHop, Resolution};
pub(crate) use queues::Queues;
pub use resolver::{NextHops, ResolverHandle, ResolverStopped, spawn_resolver};
pub use socket::Error;
pub use sysctl::{SysctlFamily, forwarding_enabled};
pub use upper::{Upper, Uppers};
pub(crate) use words::native_refusal;
pub(crate) use xdp_features::takes_redirects;
