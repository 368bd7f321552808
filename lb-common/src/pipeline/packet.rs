//! A frame as the pipeline sees it.

use crate::{abi::Reason, net::Bytes};

use super::{Tables, wrap::Wrap};

/// A frame that the balancer forwards.
pub trait Packet: Bytes {
    /// Cuts off what of the frame is behind its first `len` bytes; false if it cannot be done.
    fn trim(&mut self, len: usize) -> bool;
    /// Gives the packet the front that its target asks for: [`super::wrap::wrap`], which the kernel build makes a function of
    /// its own.
    ///
    /// # Errors
    /// Why it cannot be done; the packet is as it came then.
    fn wrap<T: Tables>(&mut self, tables: &T, wrap: Wrap) -> Result<(), Reason>;
}
