//! What is compared: the program in the kernel, and its host build.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use lb_common::{
    abi::{self, Action, Reason, TagsEntry, Trace},
    pipeline::{Outcome, Route, RouteQuery, process},
};
use lb_core::desired::BackendId;
use lb_core::plan::{InMemory, Layout, Memory, Write};
use lb_lab::{Namespace, NextHop, Route as LabRoute};
use lb_packets::Buffer;
use lb_userspace::dataplane::Dataplane;
use lb_userspace::netlink::{Upper, Uppers};
use lb_world::{
    Interfaces, ROUTER_MAC, World, XDP_DROP, add_interfaces, expected_action, explain, in_memory, load,
    namespace, send, to_router,
};

use super::flaw::Flaw;
use super::world::{MTU, OWN, OWN4, OWN6, ROUTER, TAGGED, TAGGED_MTU, TAGGED_VLANS, is_tagged};

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Did {
    /// Why it left as it did.
    pub reason: Reason,
    /// The backend of its target.
    pub backend: Option<BackendId>,
    /// Whether it left by another interface than it came in by.
    pub redirected: bool,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// The host build on tables in plain memory.
pub(super) struct Host {
    memory: InMemory,
    layout: Layout,
}

impl Host {
    /// With that world in its tables, but for the flaw.
    ///
    /// # Errors
    /// When the world does not fit.
    pub(super) fn new(world: &World, flaw: Option<Flaw>) -> Result<Self> {
        let mut memory = in_memory(world.capacity(), world.interfaces(), world.source_pool());
        memory.routing = Some(route);
        memory
            .uppers
            .insert(world.interfaces().front, front(world.interfaces().front));
        let layout = lay_out(world, &mut memory, flaw)?;
        Ok(Self { memory, layout })
    }

    /// What becomes of a frame.
    pub(super) fn run(&mut self, frame: &[u8]) -> Did {
        let mut buffer = Buffer::new(frame);
        let mut outcome = Outcome::UNDECIDED;
        let reason = process(&mut buffer, &self.memory, &mut outcome);
        let target = (outcome.target != Trace::NONE).then_some(outcome.target);
        Did {
            reason,
            backend: backend(&self.layout, target),
            redirected: reason.action() == Action::Send && outcome.egress != 0,
            frame: buffer.frame().to_vec(),
        }
    }
}

/// Lays a world out, but for the flaw.
fn lay_out(world: &World, memory: &mut impl Memory, flaw: Option<Flaw>) -> Result<Layout> {
    let spoil = |writes: &mut [Write]| {
        if let Some(flaw) = flaw {
            flaw.spoil(writes);
        }
    };
    world.lay_out_spoiled(memory, spoil)
}

fn backend(layout: &Layout, target: Option<u32>) -> Option<BackendId> {
    Some(layout.owner(target?)?.backend)
}

/// What the host's routing says: the host itself is found at its addresses, all else behind the router.
fn route(memory: &InMemory, query: &RouteQuery) -> Route {
    let bytes: [u8; 16] = bytemuck::cast(query.destination);
    let [a, b, c, d, ..] = bytes;
    let destination = if query.v6 {
        IpAddr::from(bytes)
    } else {
        IpAddr::from([a, b, c, d])
    };
    if OWN.contains(&destination) {
        return Route::Local;
    }
    let (mtu, tags) = if is_tagged(destination) {
        (TAGGED_MTU, tags())
    } else {
        (MTU, TagsEntry::NONE)
    };
    if u32::from(query.len) > mtu {
        return Route::TooBig(mtu as u16);
    }
    to_router(memory.ingress, tags)
}

/// The interface that packets come in by, in the program's words.
fn front(interface: u32) -> abi::DeviceEntry {
    abi::DeviceEntry {
        interface,
        v4: u32::from_ne_bytes(OWN4.octets()),
        v6: bytemuck::cast(OWN6.octets()),
        tags: TagsEntry::NONE,
    }
}

const fn tags() -> TagsEntry {
    let [outer, inner] = TAGGED_VLANS;
    TagsEntry::two(outer, inner)
}

/// What is known of the interfaces: the last one's frames leave through the first one, behind tags.
fn uppers(interfaces: Interfaces) -> Uppers {
    let upper = |tags, addresses| Upper {
        interface: interfaces.front,
        tags,
        addresses,
    };
    Arc::new(BTreeMap::from([
        (interfaces.front, upper(TagsEntry::NONE, OWN.to_vec())),
        (interfaces.tagged, upper(tags(), Vec::new())),
    ]))
}

/// A namespace with the routes that `route` tells of.
pub struct Kernel {
    namespace: Namespace,
    /// Its interfaces.
    pub interfaces: Interfaces,
}

const FRONT: &str = "front";
const BACK: &str = "back";
const TAGGED_DEVICE: &str = "tagged";
/// The balancer's addresses there, and the router's.
const TAGGED_OWN: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 18, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x98, 0, 0, 0, 0, 1)),
];
const TAGGED_ROUTER: [&str; 2] = ["198.18.1.2", "2001:db8:98::2"];

impl Kernel {
    /// Makes the namespace.
    ///
    /// # Errors
    /// Without privilege.
    pub(super) fn new() -> Result<Self> {
        let namespace = namespace("fuzz")?;
        let interfaces = namespace.netlink(async |netlink| {
            let devices = [(FRONT, MTU), (BACK, MTU), (TAGGED_DEVICE, TAGGED_MTU)];
            let interfaces = add_interfaces(netlink, devices).await?;
            let everywhere = ["0.0.0.0/0", "::/0"];
            let ways = [
                (FRONT, OWN, ROUTER, everywhere),
                (TAGGED_DEVICE, TAGGED_OWN, TAGGED_ROUTER, TAGGED),
            ];
            for (interface, own, routers, networks) in ways {
                for (((own, router), network), prefix) in own.iter().zip(routers).zip(networks).zip([24, 64])
                {
                    netlink.add_address(interface, *own, prefix).await?;
                    let router: IpAddr = router.parse()?;
                    netlink.add_neighbour(interface, router, ROUTER_MAC).await?;
                    let (destination, prefix) = network.split_once('/').context("no prefix")?;
                    let route = LabRoute {
                        destination: destination.parse()?,
                        prefix: prefix.parse()?,
                        next: NextHop::Via(router),
                        mtu: None,
                    };
                    netlink.add_route(&route).await?;
                }
            }
            Ok(interfaces)
        })?;
        Ok(Self {
            namespace,
            interfaces,
        })
    }

    /// Runs `body` inside the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and those of `body`.
    pub(super) fn within<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace.run(body)?
    }
}

/// The program on its maps; to be made and used inside [`Kernel::within`].
pub(super) struct Loaded {
    dataplane: Dataplane,
    layout: Layout,
    interfaces: Interfaces,
}

impl Loaded {
    /// Loads the program with that world in its maps, but for the flaw.
    ///
    /// # Errors
    /// When the kernel refuses the program or a map.
    pub(super) fn new(world: &World, flaw: Option<Flaw>) -> Result<Self> {
        let interfaces = world.interfaces();
        let uppers = uppers(interfaces);
        let dataplane = load(world.capacity(), interfaces, &uppers, world.source_pool())?;
        let layout = lay_out(world, &mut dataplane.tables()?, flaw)?;
        Ok(Self {
            dataplane,
            layout,
            interfaces,
        })
    }

    /// What the program does with a frame; nothing is counted or noted.
    ///
    /// # Errors
    /// When the kernel does not run it, or its action does not go with its reason.
    pub(super) fn explain(&self, frame: &[u8]) -> Result<Did> {
        let (explained, redirected) = explain(&self.dataplane, frame, self.interfaces.front)?;
        Ok(Did {
            reason: explained.reason,
            backend: backend(&self.layout, explained.target),
            redirected,
            frame: explained.frame,
        })
    }

    /// Runs the program on a frame as on one from the wire: it counts, and remembers fragments. Fails unless it does what
    /// it explained; answers, of which it makes so many a second only, may be left out.
    ///
    /// # Errors
    /// When the kernel does not run it, or it does something else.
    pub(super) fn run(&self, frame: &[u8], explained: &Did) -> Result<()> {
        let (action, output) = send(&self.dataplane, frame, self.interfaces.front)?;
        if explained.reason.is_answer() && action == XDP_DROP && output == frame {
            return Ok(());
        }
        let expected = expected_action(explained.reason, explained.redirected);
        ensure!(
            action == expected && output == explained.frame,
            "unexplained, the action is {} for {:?}, and the frame is {}",
            action,
            explained.reason,
            super::saved::hex(&output)
        );
        Ok(())
    }
}
