//! What the demo and the tests ask of the machine: network namespaces and BPF, with privilege.
//!
//! What must hold: each is tried for real. A kernel's version or a container's name tells neither.

use std::env;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};
use nix::libc;
use nix::sched::{CloneFlags, unshare};

use crate::privilege::Privilege;

/// The hidden command that runs [`try_here`] with privilege.
pub(crate) const COMMAND: &str = "try-machine";

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_TYPE_ARRAY: u32 = 2;

/// The first words of `union bpf_attr` for `BPF_MAP_CREATE` (linux/bpf.h); the kernel takes the rest as zero.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// Fails, saying what is missing, unless a process with `privilege` can make network namespaces and use BPF.
pub(crate) fn check(privilege: Privilege) -> Result<()> {
    let this = env::current_exe().context("cannot find this program's own path")?;
    let status = privilege
        .command(&this)
        .arg(COMMAND)
        .status()
        .context("cannot run a program as root")?;
    if !status.success() {
        bail!("this machine cannot run the lab (see above)");
    }
    Ok(())
}

/// Makes a network namespace and a BPF map; both go with this process.
pub(crate) fn try_here() -> Result<()> {
    const ADVICE: &str = "run this on a host or a virtual machine, or in a privileged container";
    unshare(CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("network namespaces cannot be made here ({ADVICE})"))?;
    create_map().with_context(|| format!("the kernel refuses bpf(2) here ({ADVICE})"))?;
    Ok(())
}

fn create_map() -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
    };
    // SAFETY: the kernel reads `size_of::<MapCreate>()` bytes at a pointer to a live `MapCreate`, and writes nothing.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_CREATE,
            &raw const attributes,
            size_of::<MapCreate>(),
        )
    };
    match libc::c_int::try_from(fd) {
        // SAFETY: a call that did not fail returned a new descriptor, which nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
