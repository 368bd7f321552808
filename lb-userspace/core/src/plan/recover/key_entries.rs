//! Where keys lead in service tables that were read back, and which VIPs and ports they were made for.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16};

use lb_common::{
    abi::{Key4, Key6, Meaning, PoolEntry, PoolLocation, Scope, Selector, ServiceEntry, ServiceFlags},
    net::{SCTP, TCP},
};

use super::recovered_pool::MatchKey;
use crate::desired::{PortRange, Prefix, Protocol, ServicePort};
use crate::plan::{
    layout::{records, space::targets},
    pools::pool::PoolOrigin,
};

/// A key of a service table, and the entry that it leads to.
#[derive(Clone, Copy, Debug)]
pub(in crate::plan) struct KeyEntry {
    pub(in crate::plan) address: IpAddr,
    pub(in crate::plan) selector: Selector,
    pub(in crate::plan) to: ServiceEntry,
}

impl KeyEntry {
    /// A key of the IPv4 table.
    pub(in crate::plan) fn of4((key, to): &(Key4, ServiceEntry)) -> Self {
        Self {
            address: (key.0 as u32).to_ne_bytes().into(),
            selector: Selector((key.0 >> 32) as u32),
            to: *to,
        }
    }

    /// A key of the IPv6 table.
    pub(in crate::plan) fn of6((key, to): &(Key6, ServiceEntry)) -> Self {
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

/// The locations that keys lead to, oldest first; `None` if `record` lacks one of them.
pub(in crate::plan) fn locations(record: &PoolEntry, entries: &[KeyEntry]) -> Option<Vec<PoolLocation>> {
    let mut locations: Vec<PoolLocation> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_to_service()) {
        let noted = record
            .locations
            .iter()
            .filter(|location| records::is_at(location, &entry.to));
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

/// What leads packets to that location. Where an agent died that had switched only one of the two service tables, keys
/// may disagree. The keys of the IPv4 table then count.
pub(in crate::plan) fn match_key(entries: &[KeyEntry], location: &PoolLocation) -> MatchKey {
    let here = entries
        .iter()
        .filter(|entry| entry.is_to_service() && records::is_at(location, &entry.to));
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

/// The ports that keys of one VIP were made for. Ports at the ends that narrower ranges took are not among them.
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
