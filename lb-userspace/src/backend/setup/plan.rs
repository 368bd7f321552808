//! What a plan is made from, and what it holds.

use std::{net::IpAddr, path::PathBuf};

use serde::Serialize;

use super::SetupStep;
use crate::dataplane::Mode;

/// What is particular to this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupOptions {
    /// The interface toward the balancer.
    pub interface: String,
    /// The VRF device that the interface belongs to.
    pub vrf: Option<String>,
    /// Addresses of the balancer on the way to the clients, for `nat`: one a family at most.
    pub via: Vec<IpAddr>,
    /// What packets the interface is to carry, in bytes of IP.
    pub mtu: Option<u32>,
    /// Whether `lb decap` ends tunnels also where the kernel has devices.
    pub decap: bool,
    /// How `lb decap` is attached.
    pub mode: Mode,
    /// Where `lb decap` is pinned.
    pub pin_dir: PathBuf,
}

/// What the kernel can do.
pub trait Kernel {
    /// Whether it has that module, loaded or not.
    fn has(&self, module: &str) -> bool;
}

/// Steps, and what an operator should know beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SetupPlan {
    /// In this order: an ARP answer that escapes stays in the neighbours' caches.
    pub steps: Vec<SetupStep>,
    /// What is not done by steps.
    pub notes: Vec<String>,
}

impl SetupPlan {
    /// Adds what the operator should know.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}
