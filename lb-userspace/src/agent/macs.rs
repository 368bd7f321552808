//! Which frames are for this host, told to the program.

use super::actor::Actor;
use crate::netlink;
use lb_core::plan::MacTable;

impl Actor {
    /// Tells the program which MACs frames to this host bear where it runs, if they or that has changed.
    pub(super) fn refresh_macs(&mut self) {
        let macs = netlink::macs_at(&self.known_macs, &self.parts.dataplane.interfaces());
        if macs == self.macs {
            return;
        }
        self.macs = macs;
        let table = MacTable::new(&self.macs, &self.parts.accept_macs);
        if let Err(error) = self.parts.dataplane.set_macs(&table) {
            log::error!("frames for other hosts are not told from those for this one: {error:#}");
        }
    }
}
