//! Detaching a pinned link by bpf(2), as `bpftool link detach` does: nobody who holds the link is told.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use anyhow::{Context, Result};

/// `BPF_OBJ_GET` and `BPF_LINK_DETACH` of `enum bpf_cmd`.
const OBJ_GET: libc::c_int = 7;
const LINK_DETACH: libc::c_int = 34;

/// Detaches the link that is pinned at `path`; the pin stays.
///
/// # Errors
/// When there is no link.
pub fn detach_pinned_link(path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let detach = || -> io::Result<()> {
        // A path, and a descriptor and flags that are 0.
        let fd = bpf(OBJ_GET, &mut [name.as_ptr() as u64, 0])?;
        // SAFETY: the command returns a new descriptor, which nobody else owns; `bpf` has checked for an error.
        let link = unsafe { OwnedFd::from_raw_fd(fd) };
        // In memory a descriptor is the first four bytes of eight, and the others are 0: on little-endian machines.
        bpf(
            LINK_DETACH,
            &mut [u64::from(link.as_raw_fd().cast_unsigned()).to_le()],
        )
        .map(drop)
    };
    detach().with_context(|| format!("cannot detach {}", path.display()))
}

fn bpf(command: libc::c_int, attributes: &mut [u64]) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads and writes at most the given length of `attributes`; the path that they may hold lives in
    // the caller.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_mut_ptr(),
            size_of_val(attributes),
        )
    };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
