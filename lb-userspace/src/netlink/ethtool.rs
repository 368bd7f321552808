//! Questions to a network card's driver by `SIOCETHTOOL`, and which cards merge packets on receipt.

use std::{fs, io, os::fd::AsRawFd};

use socket2::{Domain, Socket, Type};

/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// `ETHTOOL_GGRO` of `linux/ethtool.h`.
const GET_GRO: u32 = 0x2b;
/// `ETHTOOL_GFLAGS` of `linux/ethtool.h`.
const GET_FLAGS: u32 = 0x25;
/// `ETH_FLAG_LRO` of `linux/ethtool.h`.
const LRO: u32 = 1 << 15;
/// Devices that may lie on one another.
const MAX_DEPTH: u32 = 8;

nix::ioctl_readwrite_bad!(ethtool, SIOCETHTOOL, libc::ifreq);

/// A structure of `linux/ethtool.h` that a question is asked with.
///
/// # Safety
/// It begins with the number of a command, and is the structure that the kernel reads and writes for it.
pub(super) unsafe trait Question {}

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

// SAFETY: the structure of the commands that it is used with here.
unsafe impl Question for Value {}

/// Asks the driver of the interface `name`, in the network namespace of the calling thread.
pub(super) fn ask<Q: Question>(name: &str, question: &mut Q) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: all-zero bytes are a valid `ifreq`: it holds an array of bytes and a union of plain integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero and ends the name.
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut *question).cast();
    // SAFETY: `request` is a whole `ifreq` whose data points at `question`, which is the structure of its command and
    // lives until the call returns.
    unsafe { ethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(())
}

/// Network cards at or below the interface `name` that merge packets on receipt (GRO, LRO).
pub(crate) fn merging(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect_merging(name, MAX_DEPTH, &mut found);
    found
}

fn collect_merging(name: &str, depth: u32, found: &mut Vec<String>) {
    let below = lowers(name);
    // What lies on a card merges nothing itself.
    if below.is_empty() {
        let is_on = |command, mask| get(name, command).is_ok_and(|value| value & mask != 0);
        if is_on(GET_GRO, u32::MAX) || is_on(GET_FLAGS, LRO) {
            found.push(name.to_owned());
        }
    } else if depth > 0 {
        for lower in below {
            collect_merging(&lower, depth - 1, found);
        }
    }
}

/// The devices that the interface lies on, or is made of.
fn lowers(name: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/sys/class/net/{name}"))
        .into_iter()
        .flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|entry| Some(entry.strip_prefix("lower_")?.to_owned()))
        .collect()
}

fn get(name: &str, command: u32) -> io::Result<u32> {
    let mut value = Value { command, data: 0 };
    ask(name, &mut value)?;
    Ok(value.data)
}
