//! Which keys lead where: the content of the service tables.

use std::{collections::HashMap, net::IpAddr};

use lb_common::{
    abi::{Direction, Features, Forward, Key4, Key6, Selector, Service as ServiceEntry, ServiceFlags},
    net::{SCTP, TCP, UDP},
};

use super::{
    placed::Placed,
    target::{TargetEntry, wide},
};
use crate::model::{Protocol, ServicePort};

/// Keys of a service table and what they lead to, sorted by key.
pub(super) type Entries<K> = Vec<(K, ServiceEntry)>;

/// All keys of both service tables, and the look-ups that they make necessary.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) v4: Entries<Key4>,
    pub(super) v6: Entries<Key6>,
    pub(super) features: Features,
    vips: HashMap<IpAddr, ServiceFlags>,
}

impl Keys {
    /// The keys of those pools.
    pub(super) fn of<'p>(pools: impl Iterator<Item = &'p Placed>) -> Self {
        let mut keys = Self::default();
        for placed in pools {
            keys.add_pool(placed);
        }
        for (vip, flags) in std::mem::take(&mut keys.vips) {
            let entry = ServiceEntry {
                flags,
                id: u32::MAX,
                ..ServiceEntry::default()
            };
            keys.add_one(vip, Selector::VIP, entry);
        }
        keys.v4.sort_by_key(|(key, _)| key.0);
        keys.v6.sort_by_key(|(key, _)| key.0);
        keys
    }

    fn add_pool(&mut self, placed: &Placed) {
        let service = &placed.pool.service;
        let (protocol, has) = match service.protocol {
            Protocol::Tcp => (TCP, ServiceFlags::HAS_TCP),
            Protocol::Udp => (UDP, ServiceFlags::HAS_UDP),
            Protocol::Sctp => (SCTP, ServiceFlags::HAS_SCTP),
        };
        let port = service.port.exact().map_or(0, |port| port.get().to_be());
        if service.port == ServicePort::Any {
            self.features.0 |= Features::ANY_PORT;
        }
        let entry = ServiceEntry {
            slot_line: placed.slot_lines.start,
            slot_mask: (placed.slots.len() - 1) as u16,
            flags: placed.pool.flags,
            target_base: placed.targets.start,
            id: placed.number,
        };
        for (i, vip) in placed.pool.vips.iter().enumerate() {
            let entry = ServiceEntry {
                id: ServiceEntry::id_of(placed.number as u16, i as u8),
                ..entry
            };
            // Neither prefixes nor ranges have keys.
            let (Some(vip), false) = (vip.host(), matches!(service.port, ServicePort::Range(_))) else {
                continue;
            };
            self.add_one(vip, Selector::new(port, protocol, Direction::ToService), entry);
            self.vips.entry(vip).or_default().0 |= has;
        }
        for (local, id, TargetEntry { target, .. }) in placed.owned() {
            if target.forward != Forward::Nat as u8 {
                continue;
            }
            self.features.0 |= Features::RETURNS;
            let port = id.port.map_or(port, |port| port.get().to_be());
            let selector = Selector::new(port, protocol, Direction::FromBackend);
            let entry = ServiceEntry {
                target_base: placed.targets.start + local,
                ..entry
            };
            self.add_one(id.address, selector, entry);
        }
    }

    fn add_one(&mut self, address: IpAddr, selector: Selector, entry: ServiceEntry) {
        match address {
            IpAddr::V4(_) => {
                let key = Key4::new(wide(address)[0] as u32, selector);
                self.v4.push((key, entry));
            }
            IpAddr::V6(_) => self.v6.push((Key6::new(wide(address), selector), entry)),
        }
    }
}
