//! Network namespaces joined by a bridge: clients, a balancer, backends. Made for one demo or test, gone with it.
//!
//! What must hold: the host's own namespace is never changed, and every namespace is held by a descriptor of this
//! process (or of its children, which die with it) and by nothing else.

mod agent;
mod bpf_fs;
mod detach;
mod host;
mod namespace;
mod netlink;
mod offload;
pub mod patience;
pub mod process;
mod sysctl;
mod topology;
pub mod traffic;
mod xdp;

pub use agent::{Agent, LbOptions, find_binary};
pub use bpf_fs::BpfFs;
pub use detach::detach_pinned_link;
pub use host::Host;
pub use namespace::Namespace;
pub use netlink::{Netlink, NextHop, Route};
pub use sysctl::FORWARDING;
pub use topology::{Forwarder, Lab, LabOptions, Mtu, Tags};
