//! The host: its clock, interfaces, addresses and routes.

use lb_common::{
    abi::{DeviceEntry, Mac, MacKey, OwnMacs, Reason},
    pipeline::{self, Host, Route, RouteQuery},
};

use super::InMemory;

impl Host for InMemory {
    fn now(&self) -> u32 {
        self.clock
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }

    fn explains(&self) -> bool {
        self.explains
    }

    fn may_answer(&self, _: Reason) -> bool {
        let left = self.answers.get();
        let may = self.explains || left > 0;
        if may && !self.explains {
            self.answers.set(left - 1);
        }
        may
    }

    fn common_mac(&self, index: usize) -> Mac {
        self.macs.own.common[index]
    }

    fn own_mac(&self, interface: u32) -> MacKey {
        self.macs.own.own[OwnMacs::place(interface) as usize]
    }

    fn has_mac(&self, key: &MacKey) -> bool {
        self.macs.entries.contains(key)
    }

    fn accepts(&self, mac: Mac, is_for_group: bool) -> bool {
        pipeline::accepts(self, mac, is_for_group)
    }

    fn upper(&self, interface: u32) -> Option<DeviceEntry> {
        self.uppers.get(&interface).copied()
    }

    fn route(&self, query: &RouteQuery) -> Route {
        self.routing.map_or(self.route, |routing| routing(self, query))
    }
}
