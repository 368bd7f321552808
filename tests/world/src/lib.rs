//! What the packets of tests meet: services laid out by the real planner, and the balancer's interfaces and neighbours.
//!
//! What must hold: the host build and the kernel are given the same world, so that they differ only where the program does.

mod kernel;
mod source_pool;
mod surroundings;
mod world;

pub use kernel::{XDP_DROP, add_interfaces, expected_action, explain, load, namespace, send};
pub use source_pool::SourcePool;
pub use surroundings::{
    BEHIND_BACK, Interfaces, OWN_MAC, ROUTER_MAC, SMALL_MTU, Surroundings, UPPER_MAC, VIRTUAL_MAC,
    backend_mac, macs, to_router,
};
pub use world::{SEED, World, in_memory};
