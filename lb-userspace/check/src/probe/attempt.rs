//! One attempt at a target, and what the probes of all kinds need for it.
//!
//! Invariant: a socket that a probe opens asks from where the others do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;
use tokio::sync::Semaphore;

use super::Deadline;
use crate::Close;

/// One attempt at a target.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    /// Where it asks; port 0 where it asks the host.
    pub(crate) address: SocketAddr,
    /// The VRF device that it goes through.
    pub(crate) vrf: Option<&'a str>,
    /// What it is to come from: the first that this host has; empty where that is the kernel's to choose.
    pub(crate) sources: &'a [IpAddr],
    /// When it is over.
    pub(crate) deadline: Deadline,
    /// How its connection ends.
    pub(super) close: Close,
    /// One permit for each connection that is being closed.
    pub(super) closing: &'a Arc<Semaphore>,
}

impl Attempt<'_> {
    /// Puts a socket into the VRF, and binds it to the first of the sources that can be had. The port is chosen when it
    /// connects.
    pub(crate) fn bind(&self, socket: &Socket) -> io::Result<()> {
        if let Some(vrf) = self.vrf {
            socket.bind_device(Some(vrf.as_bytes()))?;
        }
        if !self.sources.is_empty() {
            // So one port can be used toward many addresses at once.
            setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
            let had = self
                .sources
                .iter()
                .find(|source| socket.bind(&SocketAddr::new(**source, 0).into()).is_ok());
            log::debug!(
                "{} is asked from {had:?}, since the kernel would ask from a VIP",
                self.address
            );
        }
        Ok(())
    }
}
