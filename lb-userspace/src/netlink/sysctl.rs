//! Kernel settings that forwarding depends on. Read only: lb never changes the host's settings.

use std::fs;
use std::io;

/// An IP version, as the kernel's settings are divided by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SysctlFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl SysctlFamily {
    /// Where its settings are.
    pub(crate) const fn directory(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// Whether the kernel forwards packets of `family` that arrive on `interface`, in the calling thread's network
/// namespace. `bpf_fib_lookup` refuses to route packets from an interface where it does not. The interface may also
/// be `all` or `default`.
///
/// # Errors
/// When there is no such interface, or the kernel has no such family.
pub fn forwarding_enabled(family: SysctlFamily, interface: &str) -> io::Result<bool> {
    if interface.is_empty() || interface.contains('/') || matches!(interface, "." | "..") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{interface:?} is no interface name"),
        ));
    }
    let path = format!("/proc/sys/net/{}/conf/{interface}/forwarding", family.directory());
    let value = fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {path}: {error}")))?;
    Ok(value.trim() != "0")
}
