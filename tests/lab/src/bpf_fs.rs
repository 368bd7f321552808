//! A BPF file system that is mounted nowhere: held by a descriptor, gone with the last holder.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// A BPF file system. A clone is the same one; the kernel removes it, with what is pinned in it, when the last clone
/// is gone.
#[derive(Debug, Clone)]
pub struct BpfFs(Arc<OwnedFd>);

impl BpfFs {
    /// Makes an empty one.
    ///
    /// # Errors
    /// When the caller may not: that needs `CAP_SYS_ADMIN`.
    pub fn new() -> Result<Self> {
        let make = || -> rustix::io::Result<OwnedFd> {
            let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        let mount = make().context("cannot make a BPF file system; run this as root (CAP_SYS_ADMIN)")?;
        Ok(Self(Arc::new(mount)))
    }

    /// Its root, as every process of this machine reaches it while this one lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Where an agent of the lab pins its dataplane.
    pub fn pin_dir(&self) -> PathBuf {
        self.path().join("lb")
    }
}
