//! What keys of the service tables that were read back lead to, and what for.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, ops::Range};

use lb_common::{
    abi::{
        Key4, Key6, Meaning, PoolEntry, PoolLocation, SLOTS_PER_LINE, Scope, Selector, ServiceEntry,
        ServiceFlags,
    },
    net::{SCTP, TCP},
};

use super::{pool::PoolOrigin, recall::MatchKey, record};
use crate::desired::{PortRange, Prefix, Protocol, ServicePort};

/// A key, and what it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyEntry {
    pub(super) address: IpAddr,
    pub(super) selector: Selector,
    pub(super) to: ServiceEntry,
}

impl KeyEntry {
    pub(super) fn of4((key, to): &(Key4, ServiceEntry)) -> Self {
        Self {
            address: (key.0 as u32).to_ne_bytes().into(),
            selector: Selector((key.0 >> 32) as u32),
            to: *to,
        }
    }

    pub(super) fn of6((key, to): &(Key6, ServiceEntry)) -> Self {
        let [high, low, selector] = key.0;
        let address: [u8; 16] = bytemuck::cast([high, low]);
        Self {
            address: address.into(),
            selector: Selector(selector as u32),
            to: *to,
        }
    }

    fn scope(&self) -> Scope {
        use Meaning::{Block, FromBackend, Portless, ToService, Vip};
        match self.selector.meaning() {
            Some(ToService { scope, .. } | Block { scope, .. } | Portless { scope } | Vip { scope }) => scope,
            Some(FromBackend { .. }) | None => Scope::HOST,
        }
    }

    fn is_to_service(&self) -> bool {
        self.selector.leads_to_slots()
    }
}
pub(super) fn targets(location: &PoolLocation) -> Range<u32> {
    location.target..location.target + location.targets
}

pub(super) fn slot_lines(location: &PoolLocation) -> Range<u32> {
    location.slot_line..location.slot_line + location.slots / SLOTS_PER_LINE
}
/// The places that keys lead to, oldest first; `None` if one is not noted.
pub(super) fn locations(record: &PoolEntry, entries: &[KeyEntry]) -> Option<Vec<PoolLocation>> {
    let mut locations: Vec<PoolLocation> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_to_service()) {
        let noted = record
            .locations
            .iter()
            .filter(|location| record::is_at(location, &entry.to));
        let location = noted.max_by_key(|location| location.serial)?;
        if !locations.contains(location) {
            locations.push(*location);
        }
    }
    locations.sort_by_key(|location| location.serial);
    let within = |entry: &KeyEntry| {
        locations
            .iter()
            .any(|location| targets(location).contains(&entry.to.target_base))
    };
    let explained = entries.iter().all(|entry| entry.is_to_service() || within(entry));
    explained.then_some(locations)
}

/// What leads packets to that place. Where only one of the two service tables was switched, keys may disagree; the
/// IPv4 table is the first.
pub(super) fn match_key(entries: &[KeyEntry], location: &PoolLocation) -> MatchKey {
    let here = entries
        .iter()
        .filter(|entry| entry.is_to_service() && record::is_at(location, &entry.to));
    let mut by_vip: BTreeMap<(u32, IpAddr, Scope), Vec<&KeyEntry>> = BTreeMap::new();
    for entry in here {
        by_vip
            .entry((entry.to.vip(), entry.address, entry.scope()))
            .or_default()
            .push(entry);
    }
    let how = |(_, entries): (&(u32, IpAddr, Scope), &Vec<&KeyEntry>)| {
        let entry = entries[0];
        let protocol = match entry.selector.protocol() {
            TCP => Protocol::Tcp,
            SCTP => Protocol::Sctp,
            _ => Protocol::Udp,
        };
        (protocol, port(entries), entry.to.flags)
    };
    let first = by_vip.iter().min_by_key(|((_, address, _), _)| *address).map(how);
    let (protocol, port, flags) = first.unwrap_or((Protocol::Tcp, ServicePort::Any, ServiceFlags::default()));
    let agree = by_vip.iter().all(|vip| Some(how(vip)) == first);
    MatchKey {
        vips: by_vip.into_keys().filter_map(vip).collect(),
        protocol,
        port,
        flags,
        origin: if agree {
            PoolOrigin::Recovered
        } else {
            PoolOrigin::Torn
        },
    }
}

/// The VIP that keys of that address and scope were made for.
fn vip((_, address, scope): (u32, IpAddr, Scope)) -> Option<Prefix> {
    match scope.length() {
        Some(length) => Prefix::new(address, length).ok(),
        None => Some(address.into()),
    }
}

/// The ports that keys of one VIP were made for. What narrower ranges took at the ends cannot be told.
fn port(entries: &[&KeyEntry]) -> ServicePort {
    let ports = |entry: &&KeyEntry| match entry.selector.meaning()? {
        Meaning::ToService { port, .. } => {
            let port = NonZeroU16::new(u16::from_be(port))?;
            Some((port, port))
        }
        Meaning::Block { block, .. } => {
            Some((NonZeroU16::new(block.first())?, NonZeroU16::new(block.last())?))
        }
        Meaning::Portless { .. } | Meaning::Vip { .. } | Meaning::FromBackend { .. } => None,
    };
    let all = || entries.iter().filter_map(ports);
    let first = all().map(|(first, _)| first).min();
    let last = all().map(|(_, last)| last).max();
    first
        .zip(last)
        .and_then(|(first, last)| PortRange::new(first, last))
        .map_or(ServicePort::Any, ServicePort::from)
}
