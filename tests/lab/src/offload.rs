//! Offloads of virtual links, over the ethtool ioctl.
//!
//! Every frame on the lab's wire must look as it would on a cable: whole checksums, at most one MTU long, VLAN tags in
//! the frame. A veth keeps these in the socket buffer's metadata by default, where XDP cannot see them.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Namespace;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// Commands of `linux/ethtool.h` that take one 32-bit value.
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETH_FLAG_TXVLAN: u32 = 1 << 7;

nix::ioctl_readwrite_bad!(ethtool_ioctl, SIOCETHTOOL, libc::ifreq);

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

impl Namespace {
    /// Makes `interface` send whole checksums (and so no segmentation offload) and VLAN tags inside the frame, and
    /// stops it from merging received segments.
    ///
    /// # Errors
    /// When the interface is missing or its driver refuses.
    pub fn disable_offloads(&self, interface: &str) -> Result<()> {
        self.run(|| {
            ethtool(interface, ETHTOOL_STXCSUM, 0).context("cannot turn transmit checksums off")?;
            ethtool(interface, ETHTOOL_SGRO, 0).context("cannot turn receive merging (GRO) off")?;
            let flags = ethtool(interface, ETHTOOL_GFLAGS, 0).context("cannot read the offload flags")?;
            ethtool(interface, ETHTOOL_SFLAGS, flags & !ETH_FLAG_TXVLAN)
                .context("cannot turn VLAN insertion off")?;
            anyhow::Ok(())
        })?
        .with_context(|| format!("offloads of {interface} in the namespace {}", self.name()))
    }
}

impl Namespace {
    /// Lets `interface` merge received segments, or stops it from that.
    ///
    /// # Errors
    /// When the interface is missing or its driver refuses.
    pub fn merge_received(&self, interface: &str, on: bool) -> Result<()> {
        self.run(|| ethtool(interface, ETHTOOL_SGRO, on.into()))?
            .with_context(|| {
                format!(
                    "receive merging (GRO) of {interface} in the namespace {}",
                    self.name()
                )
            })?;
        Ok(())
    }
}

/// Runs one ethtool command with one value and returns the value that the kernel leaves.
fn ethtool(interface: &str, command: u32, data: u32) -> Result<u32> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut value = EthtoolValue { command, data };
    // SAFETY: all-zero bytes are a valid `ifreq`: it holds an array of bytes and a union of plain integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero and ends the name.
    ensure!(
        interface.len() < request.ifr_name.len(),
        "the interface name {interface:?} is too long"
    );
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: `request` is a whole `ifreq` whose data points at `value`, which is as long as these commands need and
    // lives until the call returns.
    unsafe { ethtool_ioctl(socket.as_raw_fd(), &raw mut request) }?;
    Ok(value.data)
}
