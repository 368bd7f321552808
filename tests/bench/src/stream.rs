//! Frames that the kernel makes and sends out of an interface, toward whatever is attached at its other end.
//!
//! The kernel reports success for frames that nobody takes: they are to be counted where they arrive. What must hold:
//! a frame is sent as it was described, although its memory may come back rewritten.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use aya::Ebpf;
use lb_lab::{Host, Namespace};
use nix::sched::sched_getcpu;

use super::{
    cpu,
    frame::{Frame, Payload},
    wrapper::{Flows, OBJECT, Wrapper, xdp},
};

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segments {
    /// Segments of 2 to this power of established connections, in turns.
    Established {
        /// At most 24.
        bits: u32,
    },
    /// Segments that open connections, no two of them the same.
    Opening,
}

impl Segments {
    fn described(self) -> (Payload, Flows) {
        let none = Flows::default();
        match self {
            Self::Established { bits } => (Payload::Tcp, Flows { bits, ..none }),
            Self::Opening => (Payload::Syn, Flows { fresh: true, ..none }),
        }
    }
}

/// A source of TCP segments.
#[derive(Debug)]
pub struct Stream {
    namespace: Namespace,
    wrapper: Wrapper,
    /// Holds the program that the wrapper calls, which sends the frame.
    _sender: Ebpf,
    cpu: u32,
}

impl Stream {
    /// Segments from `client` and clients beside it to `service`, to be sent out of the port that leads to `host`, to its
    /// MAC address.
    ///
    /// # Errors
    /// When the kernel refuses the programs, or there is no such interface.
    pub fn new(
        namespace: &Namespace,
        host: &Host,
        client: SocketAddr,
        service: SocketAddr,
        segments: Segments,
    ) -> Result<Self> {
        let (payload, flows) = segments.described();
        let frame = Frame::new(payload, client, service)?.addressed_to(host.mac);
        let index = namespace.netlink(async |netlink| netlink.index(&host.port).await)?;
        let mut sender =
            Ebpf::load(OBJECT).context("cannot load the bench's BPF object; run this as root")?;
        let program = xdp(&mut sender, "empty")?;
        program.load()?;
        let wrapper = Wrapper::load(&frame, flows, program.fd()?, index)?;
        Ok(Self {
            namespace: namespace.clone(),
            wrapper,
            _sender: sender,
            cpu: u32::try_from(sched_getcpu().context("cannot tell which CPU this is")?)?,
        })
    }

    /// Sends `count` frames, all from one CPU: there the kernel carries each batch of 64 as far as it goes before it
    /// makes the next, so that queues on the way do not fill up. From another CPU the next batch would not wait.
    ///
    /// # Errors
    /// When the kernel refuses to.
    pub fn send(&self, count: u32) -> Result<()> {
        self.namespace.run(|| {
            cpu::pin(self.cpu)?;
            self.wrapper.run_live(count)
        })?
    }
}
