//! What keys of the service tables that were read back lead to, and what for.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, ops::Range};

use lb_common::{
    abi::{
        Key4, Key6, Meaning, PoolEntry, PoolLocation, SLOTS_PER_LINE, Scope, Selector, ServiceEntry,
        ServiceFlags,
    },
    net::{SCTP, TCP},
};

use super::{pool::Origin, recall::MatchKey, record};
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
pub(super) fn targets(place: &PoolLocation) -> Range<u32> {
    place.target..place.target + place.targets
}

pub(super) fn slot_lines(place: &PoolLocation) -> Range<u32> {
    place.slot_line..place.slot_line + place.slots / SLOTS_PER_LINE
}
/// The places that keys lead to, oldest first; `None` if one is not noted.
pub(super) fn places(record: &PoolEntry, leads: &[KeyEntry]) -> Option<Vec<PoolLocation>> {
    let mut places: Vec<PoolLocation> = Vec::new();
    for lead in leads.iter().filter(|lead| lead.is_to_service()) {
        let noted = record
            .places
            .iter()
            .filter(|place| record::is_at(place, &lead.to));
        let place = noted.max_by_key(|place| place.serial)?;
        if !places.contains(place) {
            places.push(*place);
        }
    }
    places.sort_by_key(|place| place.serial);
    let within = |lead: &KeyEntry| {
        places
            .iter()
            .any(|place| targets(place).contains(&lead.to.target_base))
    };
    let explained = leads.iter().all(|lead| lead.is_to_service() || within(lead));
    explained.then_some(places)
}

/// What leads packets to that place. Where only one of the two service tables was switched, keys may disagree; the
/// IPv4 table is the first.
pub(super) fn front(leads: &[KeyEntry], place: &PoolLocation) -> MatchKey {
    let here = leads
        .iter()
        .filter(|lead| lead.is_to_service() && record::is_at(place, &lead.to));
    let mut by_vip: BTreeMap<(u32, IpAddr, Scope), Vec<&KeyEntry>> = BTreeMap::new();
    for lead in here {
        by_vip
            .entry((lead.to.vip(), lead.address, lead.scope()))
            .or_default()
            .push(lead);
    }
    let how = |(_, leads): (&(u32, IpAddr, Scope), &Vec<&KeyEntry>)| {
        let lead = leads[0];
        let protocol = match lead.selector.protocol() {
            TCP => Protocol::Tcp,
            SCTP => Protocol::Sctp,
            _ => Protocol::Udp,
        };
        (protocol, port(leads), lead.to.flags)
    };
    let first = by_vip.iter().min_by_key(|((_, address, _), _)| *address).map(how);
    let (protocol, port, flags) = first.unwrap_or((Protocol::Tcp, ServicePort::Any, ServiceFlags::default()));
    let agree = by_vip.iter().all(|vip| Some(how(vip)) == first);
    MatchKey {
        vips: by_vip.into_keys().filter_map(vip).collect(),
        protocol,
        port,
        flags,
        origin: if agree { Origin::Recalled } else { Origin::Torn },
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
fn port(leads: &[&KeyEntry]) -> ServicePort {
    let ports = |lead: &&KeyEntry| match lead.selector.meaning()? {
        Meaning::ToService { port, .. } => {
            let port = NonZeroU16::new(u16::from_be(port))?;
            Some((port, port))
        }
        Meaning::Block { block, .. } => {
            Some((NonZeroU16::new(block.first())?, NonZeroU16::new(block.last())?))
        }
        Meaning::Portless { .. } | Meaning::Vip { .. } | Meaning::FromBackend { .. } => None,
    };
    let all = || leads.iter().filter_map(ports);
    let first = all().map(|(first, _)| first).min();
    let last = all().map(|(_, last)| last).max();
    first
        .zip(last)
        .and_then(|(first, last)| PortRange::new(first, last))
        .map_or(ServicePort::Any, ServicePort::from)
}
