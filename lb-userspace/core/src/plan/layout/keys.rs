//! Which keys lead packets where: the content of the service tables.

use std::{collections::HashMap, net::IpAddr, ops::RangeInclusive};

use lb_common::{
    abi::{
        Direction, Features, Forward, Key4, Key6, Lengths, PortBlock, Scope, Selector, ServiceEntry,
        ServiceFlags,
    },
    net::{SCTP, TCP, UDP},
};

use super::placed_pool::PlacedPool;
use crate::desired::{BackendId, Fragments, Prefix, Protocol, ServicePort};
use crate::plan::tables::{
    ports::{self, Piece},
    target::wide,
};

/// Keys of a service table and what they lead to, sorted by key.
pub(in crate::plan) type Entries<K> = Vec<(K, ServiceEntry)>;

/// All keys of both service tables, and the look-ups that the keys make necessary.
#[derive(Debug, Default)]
pub(in crate::plan) struct Keys {
    pub(in crate::plan) v4: Entries<Key4>,
    pub(in crate::plan) v6: Entries<Key6>,
    pub(in crate::plan) features: Features,
    /// Lengths of VIPs that are prefixes: IPv4, IPv6.
    pub(in crate::plan) lengths: [Lengths; 2],
}

/// The services of one VIP and protocol.
#[derive(Debug, Default)]
struct VipServices {
    /// Services of one port, by the port in wire order; a service of any port, by 0.
    ports: HashMap<u16, ServiceEntry>,
    /// The ranges of services of several ports.
    ranges: Vec<RangeInclusive<u16>>,
    /// The service of each range.
    ranged: Vec<ServiceEntry>,
    /// The service that gets fragments without ports.
    portless: Option<ServiceEntry>,
    /// The flags of all services, masked by [`ServiceFlags::UNSERVED`].
    unserved: ServiceFlags,
}

/// What the entry of a VIP says, whatever its services.
#[derive(Clone, Copy, Debug, Default)]
struct Vip {
    flags: ServiceFlags,
    block_sizes: u32,
}

impl Keys {
    /// The keys of those pools.
    pub(in crate::plan) fn of<'p>(pools: impl Iterator<Item = &'p PlacedPool>) -> Self {
        let mut keys = Self::default();
        let mut by_vip: HashMap<(Prefix, Protocol), VipServices> = HashMap::new();
        for placed in pools {
            for (vip, entry) in entries(placed) {
                let service = &placed.pool.service;
                let services = by_vip.entry((vip, service.protocol)).or_default();
                services.add(service.port, service.fragments, entry);
            }
            keys.add_answers(placed);
        }
        let mut vips: HashMap<Prefix, Vip> = HashMap::new();
        for ((vip, protocol), services) in by_vip {
            let known = vips.entry(vip).or_default();
            known.flags |= ServiceFlags::speaks(number(protocol)) | services.unserved;
            known.block_sizes |= keys.add_services(vip, number(protocol), services);
        }
        for (vip, known) in vips {
            keys.add_vip(vip, known);
        }
        keys.v4.sort_by_key(|(key, _)| key.0);
        keys.v6.sort_by_key(|(key, _)| key.0);
        keys
    }

    /// Adds the keys that lead to the services of a VIP. Yields the sizes of the blocks of ports in these keys.
    fn add_services(&mut self, vip: Prefix, protocol: u8, services: VipServices) -> u32 {
        let VipServices {
            ports,
            ranges,
            ranged,
            portless,
            unserved: _,
        } = services;
        let (address, scope) = (vip.address(), scope(vip));
        let mut sizes = 0;
        if ports.contains_key(&0) {
            self.features |= Features::ANY_PORT;
        }
        if !ranges.is_empty() {
            self.features |= Features::RANGES;
        }
        for interval in ports::flatten(&ranges) {
            let entry = ranged[interval.range];
            for piece in ports::pieces(&interval.ports) {
                let selector = match piece {
                    // The port belongs to a service with that one port.
                    Piece::One(port) if ports.contains_key(&port.to_be()) => continue,
                    Piece::One(port) => Selector::within(scope, port.to_be(), protocol),
                    Piece::Block(block) => {
                        sizes |= 1 << block.bits();
                        Selector::block(scope, block, protocol)
                    }
                };
                self.add_one(address, selector, entry);
            }
        }
        for (port, entry) in ports {
            self.add_one(address, Selector::within(scope, port, protocol), entry);
        }
        if let Some(entry) = portless {
            self.add_one(address, Selector::portless(scope, protocol), entry);
        }
        sizes
    }

    /// Adds the key of a VIP as such.
    fn add_vip(&mut self, vip: Prefix, known: Vip) {
        if vip.host().is_none() {
            self.features |= Features::RANGES;
            self.lengths[usize::from(vip.is_ipv6())].insert(vip.length());
        }
        if known.flags.intersects(ServiceFlags::UNSERVED) {
            self.features |= Features::UNSERVED;
        }
        let entry = ServiceEntry {
            slot_line: known.block_sizes,
            flags: known.flags,
            id: u32::MAX,
            ..ServiceEntry::default()
        };
        self.add_one(vip.address(), Selector::vip(scope(vip)), entry);
    }

    /// Adds the keys that lead from the pool's `nat` backends back to clients.
    fn add_answers(&mut self, placed: &PlacedPool) {
        let service = &placed.pool.service;
        let port = service.port.exact().map_or(0, |port| port.get().to_be());
        if translates(placed) {
            self.features |= Features::FULLNAT;
        }
        for (local, id) in answering(placed) {
            self.features |= Features::RETURNS;
            let port = id.port.map_or(port, |port| port.get().to_be());
            let selector = Selector::new(port, number(service.protocol), Direction::FromBackend);
            let entry = ServiceEntry {
                target_base: placed.targets.start + local,
                ..entry(placed)
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

/// Whether the same keys lead to both pools, and lead to the same location.
pub(in crate::plan) fn are_the_same(one: &PlacedPool, other: &PlacedPool) -> bool {
    let of_service = |placed: &PlacedPool| {
        let service = &placed.pool.service;
        (service.protocol, service.port, service.fragments)
    };
    one.pool.vips == other.pool.vips
        && of_service(one) == of_service(other)
        && entry(one) == entry(other)
        && translates(one) == translates(other)
        && answering(one).eq(answering(other))
}

/// Whether some backend of a pool is reached by `fullnat`.
fn translates(placed: &PlacedPool) -> bool {
    placed
        .owned()
        .any(|(_, _, owned)| owned.target.forward == Forward::FullNat)
}

/// The backends of a pool whose answers find their way by a key: index of the cell, backend.
fn answering(placed: &PlacedPool) -> impl Iterator<Item = (u32, BackendId)> {
    placed
        .owned()
        .filter(|(_, _, owned)| owned.target.forward == Forward::Nat)
        .map(|(local, id, _)| (local, id))
}

impl VipServices {
    /// Adds a service.
    fn add(&mut self, port: ServicePort, fragments: Fragments, entry: ServiceEntry) {
        self.unserved |= entry.flags & ServiceFlags::UNSERVED;
        match port {
            ServicePort::Any => drop(self.ports.insert(0, entry)),
            ServicePort::Exact(port) => drop(self.ports.insert(port.get().to_be(), entry)),
            ServicePort::Range(range) => {
                self.ranges.push(range.first().get()..=range.last().get());
                self.ranged.push(entry);
            }
        }
        if fragments == Fragments::Hash3 {
            self.portless = Some(entry);
        }
    }
}

/// The pool's VIPs, and the entry that leads from each of them to the pool.
fn entries(placed: &PlacedPool) -> impl Iterator<Item = (Prefix, ServiceEntry)> {
    let vips = placed.pool.vips.iter().enumerate();
    vips.map(|(i, vip)| {
        let id = ServiceEntry::id_of(placed.number as u16, i as u8);
        (*vip, ServiceEntry { id, ..entry(placed) })
    })
}

/// The entry that leads to a pool.
fn entry(placed: &PlacedPool) -> ServiceEntry {
    ServiceEntry {
        slot_line: placed.slot_lines.start,
        slot_mask: (placed.slots.len() - 1) as u16,
        flags: placed.pool.flags,
        target_base: placed.targets.start,
        id: placed.number,
    }
}

fn scope(vip: Prefix) -> Scope {
    match vip.host() {
        Some(_) => Scope::HOST,
        None => Scope::prefix(vip.length()),
    }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
        Protocol::Sctp => SCTP,
    }
}

const _: () = assert!(
    PortBlock::MAX_BITS < u32::BITS,
    "a VIP's entry has a bit for each size"
);
