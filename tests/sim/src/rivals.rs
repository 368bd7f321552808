//! What simpler rules would have made of the same packet, from the same slot tables.
//!
//! What must hold: the rivals see the tables as the packet path does at that instant, but no flow table.

use std::net::IpAddr;

use lb_common::{
    abi::{Direction, Key4, Key6, SLOTS_PER_LINE, Selector, ServiceEntry, Slot, SlotLine},
    pipeline::{FlowTables, ServiceTables},
};
use lb_core::plan::InMemory;

use super::hosts::Host;

/// Where one VIP's slots and targets lie.
#[derive(Clone, Copy, Default)]
pub(super) struct Front(ServiceEntry);

/// The hosts that the rivals send a packet to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// By the slot's current owner, whatever the packet.
    pub(super) stateless: Host,
    /// A SYN by the current owner, any other packet by the previous one.
    pub(super) syn_rule: Host,
}

impl Front {
    /// As the service tables have it now.
    pub(super) fn find(memory: &InMemory, vip: IpAddr, port: u16, protocol: u8) -> Self {
        let selector = Selector::new(port.to_be(), protocol, Direction::ToService);
        let found = match vip {
            IpAddr::V4(v4) => {
                let key = Key4::new(u32::from_ne_bytes(v4.octets()), selector);
                let first = memory.service_line4(memory.service_index(false).line(&key));
                first.and_then(|line| {
                    let rest = || memory.service_line4(memory.follow4(line.next, &key))?.find(&key);
                    line.find(&key).or_else(rest)
                })
            }
            IpAddr::V6(v6) => {
                let words: [[u8; 8]; 2] = bytemuck::cast(v6.octets());
                let key = Key6::new(words.map(u64::from_ne_bytes), selector);
                let first = memory.service_line6(memory.service_index(true).line(&key));
                first.and_then(|line| {
                    let rest = || memory.service_line6(memory.follow6(line.next, &key))?.find(&key);
                    line.find(&key).or_else(rest)
                })
            }
        };
        Self(found.unwrap_or_default())
    }

    /// Chooses the hosts that a packet in that slot would go to.
    pub(super) fn choose(&self, memory: &InMemory, slot: u32, opens: bool) -> Choice {
        let Self(service) = self;
        let current = slot_of(memory.slots(service.slot_line + slot / SLOTS_PER_LINE), slot);
        let stateless = self.host(memory, current);
        let syn_rule = if current.is_migrating() && !opens {
            let previous = memory.previous(service.slot_line + slot / SLOTS_PER_LINE);
            self.host(memory, slot_of(previous, slot))
        } else {
            stateless
        };
        Choice { stateless, syn_rule }
    }

    fn host(&self, memory: &InMemory, slot: Slot) -> Host {
        let target = slot
            .owner()
            .and_then(|owner| memory.target(self.0.target_base + owner));
        target.map_or(Host::NOBODY, |target| {
            let [_, _, _, _, high, low, _, _] = target.macs_head.to_ne_bytes();
            Host::of_mac([high, low])
        })
    }
}

fn slot_of(line: Option<&SlotLine>, slot: u32) -> Slot {
    line.map_or(Slot::NONE, |line| line.0[(slot % SLOTS_PER_LINE) as usize])
}
