//! The network that the programs under test believe in: one end of a veth pair, routes and neighbours.

use std::net::IpAddr;

use anyhow::{Context, Result};
use aya::{Ebpf, maps::PerCpuArray, programs::XdpMode};
use lb_lab::{FORWARDING, Namespace};

use super::{
    frame::{OWN_MAC, ROUTER_MAC},
    wrapper::{OBJECT, xdp},
};

/// The balancer's interface, and the far end.
const NEAR: &str = "balancer";
const FAR: &str = "wire";
const MTU: u32 = 3000;
/// The balancer's address, in the network of nat backends' clients.
const OWN: [u8; 4] = [192, 168, 255, 254];
const PREFIX: u8 = 16;
/// The client that answers of nat backends go to.
pub(super) const CLIENT: [u8; 4] = [192, 168, 0, 1];

/// A namespace with a veth pair in it.
pub(super) struct Wire {
    namespace: Namespace,
    /// The attached programs.
    programs: Ebpf,
    /// Index of the balancer's interface.
    pub(super) interface: u32,
}

impl Wire {
    pub(super) fn new() -> Result<Self> {
        let namespace = Namespace::new("bench")?;
        namespace.set_sysctls(FORWARDING)?;
        let interface = namespace.netlink(async |netlink| {
            netlink.add_veth(NEAR, FAR).await?;
            netlink.configure(NEAR, OWN_MAC, MTU).await?;
            netlink.configure(FAR, ROUTER_MAC, MTU).await?;
            netlink.set_up(NEAR).await?;
            netlink.set_up(FAR).await?;
            netlink.wait_until_up(NEAR).await?;
            netlink.add_address(NEAR, IpAddr::from(OWN), PREFIX).await?;
            netlink
                .add_neighbour(NEAR, IpAddr::from(CLIENT), ROUTER_MAC)
                .await?;
            netlink.index(NEAR).await
        })?;
        let programs = namespace.run(attach)??;
        Ok(Self {
            namespace,
            programs,
            interface,
        })
    }

    /// How many frames have arrived at the far end.
    pub(super) fn received(&self) -> Result<u64> {
        let map = self.programs.map("RECEIVED").context("no map RECEIVED")?;
        let received: PerCpuArray<_, u64> = map.try_into()?;
        Ok(received.get(&0, 0)?.iter().sum())
    }

    /// Runs `body` in a thread where the balancer's interface is.
    pub(super) fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace.run(body)
    }
}

/// An XDP program at each end: a veth has receive queues of XDP only while it carries a program, and takes frames sent
/// with `XDP_TX` only while its peer does.
fn attach() -> Result<Ebpf> {
    let mut ebpf = Ebpf::load(OBJECT).context("cannot load the bench's BPF object; run this as root")?;
    for (program, interface) in [("pass", NEAR), ("sink", FAR)] {
        let program = xdp(&mut ebpf, program)?;
        program.load()?;
        program
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("cannot attach an XDP program to {interface}"))?;
    }
    Ok(ebpf)
}
