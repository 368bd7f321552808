//! The packet's way: parse → match the service → pick the backend → rewrite.
//!
//! Generic over the packet and the tables, so that the kernel and the tests run the same code. Invariant: every way
//! out has a [`Reason`], and a packet whose reason does not send it leaves unchanged.

mod echo;
mod family;
mod parse;
mod rewrite;
mod services;

use crate::{
    abi::{
        Direction, Features, FlowKey, Key4, Key6, Reason, SLOTS_PER_LINE, Selector, Service, ServiceFlags,
        ServiceLine4, ServiceLine6, Slot, SlotLine, TableIndex, Target, Trace,
    },
    flows::{Placed, Query},
    net::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, TCP, UDP, is_extension_header, load16, tcp},
};

use family::{Family, V4, V6};
use parse::{Ip, Transport};
use services::Lookup;

/// A frame, from its Ethernet header on.
pub trait Packet {
    /// The `N` bytes at `offset`, when they lie inside the frame.
    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;
    /// As [`Packet::view`], to write.
    fn view_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;
    /// Makes room for `bytes` in front of the frame; false when there is none.
    fn grow(&mut self, bytes: usize) -> bool;
    /// Length of the frame.
    fn frame_len(&self) -> usize;
}

/// What the pipeline asks of its tables and of the host.
pub trait Tables {
    /// Seed of the flow hash.
    fn seed(&self) -> u64;
    /// Look-ups that can find anything.
    fn features(&self) -> Features;
    /// Where the service table of IPv4 or IPv6 is found.
    fn service_index(&self, v6: bool) -> TableIndex;
    /// A line of map `SERVICES4`.
    fn service_line4(&self, line: u32) -> Option<&ServiceLine4>;
    /// A line of map `SERVICES6`.
    fn service_line6(&self, line: u32) -> Option<&ServiceLine6>;
    /// Follows a chain of `SERVICES4` from line `first` to the line that holds `key`; 0 if none does. Rare, so the
    /// kernel build makes [`crate::abi::follow_chain`] a function of its own, verified once and not at every look-up.
    fn follow4(&self, first: u32, key: &Key4) -> u32;
    /// The same for `SERVICES6`.
    fn follow6(&self, first: u32, key: &Key6) -> u32;
    /// A line of map `SLOTS`.
    fn slots(&self, line: u32) -> Option<&SlotLine>;
    /// Asks the flow table: [`flows::place`], which the kernel build makes a function of its own.
    fn place(&self, query: &Query) -> Placed;
    /// Whether the packet is only explained: it must leave no trace in the tables.
    fn explains(&self) -> bool;
    /// An entry of map `TARGETS`.
    fn target(&self, index: u32) -> Option<&Target>;
    /// The interface that the packet came in by.
    fn ingress(&self) -> u32;
    /// The host's route for a packet that it would forward.
    fn route(&self, query: &RouteQuery) -> Route;
}

/// A packet for which the host's route is asked. Addresses are wide (see [`Target::addresses`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// IPv6 rather than IPv4.
    pub v6: bool,
    /// Source address.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// Transport protocol.
    pub protocol: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// IP length.
    pub len: u16,
}

/// The host's answer to a [`RouteQuery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Out of `egress` with these MACs (laid out as in [`Target`]).
    Hop {
        /// Destination MAC and the first two bytes of the source MAC.
        macs_head: u64,
        /// The rest of the source MAC.
        macs_tail: u32,
        /// Interface index.
        egress: u32,
    },
    /// The destination is this host.
    Local,
    /// Larger than the route's MTU.
    TooBig,
    /// No route, no neighbour, or forwarding is off.
    None,
}

/// What the counters and `lb explain` need to know of a packet beside its [`Reason`]. Whole words, so that it can be
/// built on a BPF program's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Outcome {
    /// Interface to send out of, if it is sent; 0 for the one that it came in by.
    pub egress: u32,
    /// [`Service::id`] or [`Trace::NONE`]; see [`Outcome::service_number`].
    pub service: u32,
    /// Slot within the service's table or [`Trace::NONE`].
    pub slot: u32,
    /// Index of the target or [`Trace::NONE`].
    pub target: u32,
    /// Length of the IP packet as it came in.
    pub bytes: u32,
    /// TCP's flags; 0 for anything but TCP.
    pub tcp_flags: u16,
    /// A [`crate::abi::Placement`]'s number.
    pub placement: u16,
}

impl Outcome {
    /// Before anything is decided.
    pub const UNDECIDED: Self = Self {
        egress: 0,
        service: Trace::NONE,
        slot: Trace::NONE,
        target: Trace::NONE,
        bytes: 0,
        tcp_flags: 0,
        placement: 0,
    };

    /// The number of the service, or [`Trace::NONE`].
    #[inline(always)]
    pub const fn service_number(&self) -> u32 {
        if self.service == Trace::NONE {
            Trace::NONE
        } else {
            self.service & 0xffff
        }
    }

    /// Whether the packet opens or closes a flow, or does something odd: most do not.
    #[inline(always)]
    pub const fn concerns_flow(&self) -> bool {
        tcp::concerns_flow(self.tcp_flags as u8)
    }

    /// Whether the packet opens a flow: a TCP SYN without ACK.
    #[inline(always)]
    pub const fn opens_flow(&self) -> bool {
        tcp::opens_flow(self.tcp_flags as u8)
    }

    /// Whether the packet ends a flow, or a half of it.
    #[inline(always)]
    pub const fn closes_flow(&self) -> bool {
        tcp::closes_flow(self.tcp_flags as u8)
    }
}

/// Takes a packet all the way and says why it left as it did; `outcome` says more.
///
/// The outcome is the caller's memory on purpose: returned by value, its fields would be set anew on every way out.
#[inline(always)]
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T, outcome: &mut Outcome) -> Reason {
    match by_family(packet, tables, outcome) {
        Ok(reason) | Err(reason) => reason,
    }
}

/// `Err`, here and below, means no more than "left early, for this reason".
#[inline(always)]
fn by_family<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    outcome: &mut Outcome,
) -> Result<Reason, Reason> {
    let ethernet: &[u8; ETHERNET] = packet.view(0).ok_or(Reason::NotIp)?;
    match load16(ethernet, 12) {
        ETHERTYPE_IPV4 => balance::<V4, P, T>(packet, tables, outcome),
        ETHERTYPE_IPV6 => balance::<V6, P, T>(packet, tables, outcome),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn balance<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    outcome: &mut Outcome,
) -> Result<Reason, Reason> {
    // A frame too short to name a destination is for no service.
    let ip = F::parse(packet).ok_or(Reason::NoService)?;
    let transport = match parse::transport(packet, &ip) {
        Ok(transport) => transport,
        Err(oddity) => return without_ports::<F, P, T>(packet, tables, &ip, oddity),
    };
    outcome.bytes = u32::from(ip.len);
    outcome.tcp_flags = u16::from(transport.flags);

    let lookup = Lookup::<F, T>::new(tables);
    let to_service = Direction::ToService;
    let Some(service) = lookup.exact_or_any(
        ip.destination,
        transport.destination_port(),
        ip.protocol,
        to_service,
    ) else {
        return give_back::<F, P, T>(packet, tables, &lookup, &ip, &transport, outcome);
    };
    outcome.service = service.id;
    if ip.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let hash = flow_hash::<F>(&service, &ip, &transport, tables.seed());
    let flow = || F::hash(ip.source, transport.ports, tables.seed());
    let target = pick(tables, &service, hash, flow, outcome)?;
    if ip.len > target.max_len {
        // Also the answer of an unresolved target, whose line is all zero.
        return Err(if target.forward == 0 {
            Reason::Unresolved
        } else {
            Reason::TooBig
        });
    }
    if target.egress != 0 && target.egress != tables.ingress() {
        outcome.egress = target.egress;
    }
    rewrite::toward_backend::<F, P>(packet, target, &ip, &transport, hash)?;
    Ok(Reason::Forwarded)
}

/// A packet that shows no ports: ICMP, a fragment, something broken or something else.
#[inline(always)]
fn without_ports<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ip: &Ip<F::Address>,
    oddity: Reason,
) -> Result<Reason, Reason> {
    let lookup = Lookup::<F, T>::new(tables);
    let vip = lookup
        .find(ip.destination, Selector::VIP)
        .ok_or(Reason::NoService)?;
    let concerns_us = match ip.protocol {
        icmp if icmp == F::ICMP && ip.oddity.is_none() => return echo::answer::<F, P>(packet, ip),
        // The host puts fragmented echo requests together by itself; broken ones nobody answers.
        icmp if icmp == F::ICMP => oddity != Reason::Fragment,
        TCP => vip.flags.has(ServiceFlags::HAS_TCP),
        UDP => vip.flags.has(ServiceFlags::HAS_UDP),
        // What hides behind an extension header may well be for a service of this VIP.
        other => F::V6 && is_extension_header(other),
    };
    Err(if concerns_us { oddity } else { Reason::NoService })
}

#[inline(always)]
fn flow_hash<F: Family>(service: &Service, ip: &Ip<F::Address>, transport: &Transport, seed: u64) -> u64 {
    let ports = if service.flags.has(ServiceFlags::CLIENT_IP) {
        0
    } else {
        transport.ports
    };
    F::hash(ip.source, ports, seed)
}

/// The backend that the flow belongs to: its slot's owner, unless that has changed of late. `flow` hashes the flow by
/// all of its ports.
#[inline(always)]
fn pick<'t, T: Tables>(
    tables: &'t T,
    service: &Service,
    hash: u64,
    flow: impl Fn() -> u64,
    outcome: &mut Outcome,
) -> Result<&'t Target, Reason> {
    let slot = (hash >> 48) as u32 & u32::from(service.slot_mask);
    outcome.slot = slot;
    let place = service.slot_line * SLOTS_PER_LINE + slot;
    let line = tables.slots(place / SLOTS_PER_LINE).ok_or(Reason::NoBackend)?;
    let slot = line.0[(place % SLOTS_PER_LINE) as usize];
    // The flag of a slot and the flag of a service that tracks all flows are the same bit.
    let owner = if Slot(slot.0 | service.flags.0).is_unsafe() {
        let flow = if service.flags.has(ServiceFlags::CLIENT_IP) {
            flow()
        } else {
            hash
        };
        look_up(tables, service, FlowKey::new(hash, flow), slot, place, outcome)
    } else {
        slot.owner()
    };
    let Some(owner) = owner else {
        let pass = service.flags.has(ServiceFlags::PASS_WHEN_EMPTY);
        return Err(if pass {
            Reason::EmptyPassed
        } else {
            Reason::NoBackend
        });
    };
    let index = service.target_base + owner;
    outcome.target = index;
    tables.target(index).ok_or(Reason::Unresolved)
}

/// Asks the flow table whom the flow belongs to. `place` is where `slot` lies in `SLOTS`.
#[inline(always)]
fn look_up<T: Tables>(
    tables: &T,
    service: &Service,
    key: FlowKey,
    slot: Slot,
    place: u32,
    outcome: &mut Outcome,
) -> Option<u32> {
    let mut packet = Query::packet(slot, outcome.tcp_flags as u8);
    if service.flags.has(ServiceFlags::TRACK_ALWAYS) {
        packet |= Query::IS_ALWAYS;
    }
    if tables.explains() {
        packet |= Query::IS_EXPLAINED;
    }
    let placed = tables.place(&Query {
        key,
        service: service.id,
        packet,
        place,
    });
    outcome.placement = placed.placement() as u16;
    Slot::owned_by(placed.owner() as u16).owner()
}

/// A packet for no service may still be a nat backend's answer: the VIP becomes its source again.
#[inline(always)]
fn give_back<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    lookup: &Lookup<'_, F, T>,
    ip: &Ip<F::Address>,
    transport: &Transport,
    outcome: &mut Outcome,
) -> Result<Reason, Reason> {
    if !tables.features().has(Features::RETURNS) {
        return Err(Reason::NoService);
    }
    let service = lookup
        .exact_or_any(
            ip.source,
            transport.source_port(),
            ip.protocol,
            Direction::FromBackend,
        )
        .ok_or(Reason::NoService)?;
    let target = tables.target(service.target_base).ok_or(Reason::NoService)?;
    let query = RouteQuery {
        v6: F::V6,
        source: target.addresses[Target::VIP],
        destination: F::wide(ip.destination),
        protocol: ip.protocol,
        tos: ip.tos,
        len: ip.len,
    };
    let (macs_head, macs_tail, egress) = match tables.route(&query) {
        // The backend talks to this host itself, as it does when it answers a heartbeat.
        Route::Local => return Err(Reason::NoService),
        Route::Hop {
            macs_head,
            macs_tail,
            egress,
        } => (macs_head, macs_tail, egress),
        Route::TooBig => return Err(Reason::TooBig),
        Route::None => return Err(Reason::NoWayBack),
    };
    outcome.service = service.id;
    outcome.target = service.target_base;
    if ip.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    if egress != tables.ingress() {
        outcome.egress = egress;
    }
    rewrite::set_macs(packet, macs_head, macs_tail)?;
    rewrite::nat::<F, P>(packet, ip, transport, &rewrite::Nat::to_client::<F>(target))?;
    Ok(Reason::Returned)
}
