//! The program in the kernel, in a namespace of its own.

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use lb_common::abi::{Action, Reason};
use lb_core::plan::Capacity;
use lb_lab::{Namespace, Netlink};
use lb_userspace::{
    dataplane::{Dataplane, Explained, Settings},
    netlink::Uppers,
};

use crate::{Interfaces, OWN_MAC, SEED, SourcePool, macs};

/// The action that drops a packet.
pub const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
/// Room for what a frame grows by.
const GROWTH: usize = 256;

/// A namespace that forwards packets.
///
/// # Errors
/// Without privilege.
pub fn namespace(name: &str) -> Result<Namespace> {
    let namespace = Namespace::new(name)?;
    namespace.set_sysctls(&[
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
    ])?;
    Ok(namespace)
}

/// Adds the balancer's interfaces, each with its name and MTU: the front one, the back one, and the one that stands for a
/// VLAN device.
///
/// # Errors
/// When the kernel refuses.
pub async fn add_interfaces(netlink: &Netlink, devices: [(&str, u32); 3]) -> Result<Interfaces> {
    for (interface, mtu) in devices {
        let peer = &format!("{interface}-peer");
        netlink.add_veth(interface, peer).await?;
        netlink.configure(interface, OWN_MAC, mtu).await?;
        for end in [interface, peer] {
            netlink.set_up(end).await?;
        }
        netlink.wait_until_up(interface).await?;
    }
    let [(front, _), (back, _), (tagged, _)] = devices;
    Ok(Interfaces {
        front: netlink.index(front).await?,
        back: netlink.index(back).await?,
        tagged: netlink.index(tagged).await?,
    })
}

/// Loads the program with empty tables, of a balancer with those interfaces and that pool; to be called inside the
/// namespace of the interfaces.
///
/// # Errors
/// When the kernel refuses the program or a map.
pub fn load(
    capacity: &Capacity,
    interfaces: Interfaces,
    uppers: &Uppers,
    sources: &SourcePool,
) -> Result<Dataplane> {
    let mut dataplane = Dataplane::load(capacity, SEED, Settings::default())?;
    dataplane.allow_egress(interfaces.back)?;
    dataplane.set_uppers(uppers, &[])?;
    dataplane.set_macs(&macs(interfaces))?;
    dataplane.set_source_pools(&sources.addresses, sources.ports.clone())?;
    Ok(dataplane)
}

/// What the program does with a frame that comes in by `ingress`, and whether it leaves by another interface; nothing is
/// counted or noted.
///
/// # Errors
/// When the kernel does not run it, or its action does not go with its reason.
pub fn explain(dataplane: &Dataplane, frame: &[u8], ingress: u32) -> Result<(Explained, bool)> {
    let explained = dataplane.explain(frame, ingress)?;
    let is_redirected = explained.action == XDP_REDIRECT;
    ensure!(
        explained.action == expected_action(explained.reason, is_redirected),
        "XDP action {} for {:?}",
        explained.action,
        explained.reason
    );
    Ok((explained, is_redirected))
}

/// Runs the program on a frame as on one from the wire: it counts and remembers. Returns its action and the frame
/// afterwards.
///
/// # Errors
/// When the kernel does not run it.
pub fn send(dataplane: &Dataplane, frame: &[u8], ingress: u32) -> Result<(u32, Vec<u8>)> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, frame.len() as u32, 0, ingress, 0, 0];
    let mut output = vec![0; frame.len() + GROWTH];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut output),
        ctx_in: Some(bytemuck::bytes_of(&context)),
        ..TestRunOptions::new()
    };
    let result = dataplane
        .program()?
        .test_run(options)
        .context("the kernel refused to run the program on this frame")?;
    output.truncate(result.data_size_out as usize);
    Ok((result.return_value, output))
}

/// The action that goes with a reason.
pub fn expected_action(reason: Reason, is_redirected: bool) -> u32 {
    match reason.action() {
        Action::Pass | Action::Hand => XDP_PASS,
        Action::Drop => XDP_DROP,
        Action::Send if is_redirected => XDP_REDIRECT,
        Action::Send => XDP_TX,
    }
}
