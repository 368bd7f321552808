//! A frame as the pipeline sees it.

use crate::{abi::Reason, net::Bytes};

use super::Tables;

/// A frame that the balancer forwards.
pub trait Packet: Bytes {
    /// Cuts off what of the frame is behind its first `len` bytes; false if it cannot be done.
    fn trim(&mut self, len: usize) -> bool;
    /// Gives the packet the front that its target asks for: [`wrap`](super::wrap::wrap), which the kernel build makes a function of
    /// its own.
    ///
    /// # Errors
    /// Why it cannot be done; the packet is as it came then.
    fn wrap<T: Tables>(&mut self, tables: &T, wrap: Wrap) -> Result<(), Reason>;
}

/// A packet that is to get a new front. Whole words, so that it can be built on a BPF program's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Wrap {
    /// The flow's hash: spreads a backend's tunnel traffic over its receive queues.
    pub hash: u64,
    /// Index of the target.
    pub target: u32,
    /// Where the IP header begins in the frame.
    pub network: u32,
    /// Length of the IP packet.
    pub len: u32,
    /// Type of service or traffic class.
    pub tos: u16,
    /// 1 for an IPv6 packet.
    pub v6: u16,
}
