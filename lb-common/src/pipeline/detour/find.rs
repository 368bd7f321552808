//! Finding the service that a packet is for: of all that its destination could mean, the one that says so most exactly.
//!
//! The address by itself comes before the prefixes that hold it, and a longer prefix before a shorter one. Of each, one
//! port comes before a range that holds it, a narrower range before a wider one, and any port last. (Ranges are blocks
//! of ports in the tables, which do not overlap: the planner saw to that.)

use crate::{
    abi::{Features, PortBlock, Reason, Scope, Selector, ServiceEntry, ServiceFlags},
    net::is_extension_header,
};

use super::{
    super::{
        ServiceTables,
        family::{Family, V4, V6},
        services::Lookup,
    },
    PacketKind, Scratch, StepResult,
};

/// Looks for the service in [`Scratch::scope`], and says where to look next. What shows no ports is for a VIP, or ends
/// here.
#[inline(always)]
pub(super) fn find<T: ServiceTables>(tables: &T, scratch: &mut Scratch) -> StepResult {
    let found = if scratch.v6 == 0 {
        within::<V4, T>(tables, scratch)
    } else {
        within::<V6, T>(tables, scratch)
    };
    match found {
        Err(Reason::NoService) => Err(scratch.for_no_service()),
        found => found,
    }
}

#[inline(always)]
fn within<F: Family, T: ServiceTables>(tables: &T, scratch: &mut Scratch) -> StepResult {
    let place = Candidate::<F, T>::of(tables, scratch);
    let vip = place.vip();
    if let Some(vip) = &vip
        && scratch.vip_flags == 0
    {
        scratch.vip_flags = u32::from(vip.flags.bits());
    }
    if let Some(vip) = vip
        && concerns::<F>(&vip, scratch)
    {
        scratch.is_for_vip = 1;
        let is_portless = scratch.is(PacketKind::Echo) || scratch.is(PacketKind::NoPorts);
        if is_portless {
            scratch.scope = Scratch::NOWHERE;
            return scratch.oddity().map_or(Ok(()), Err);
        }
        if let Some(service) = place.service(&vip, scratch) {
            scratch.scope = Scratch::NOWHERE;
            scratch.service = service;
            scratch.outcome.service = service.id;
            return scratch.oddity().map_or(Ok(()), Err);
        }
        if !scratch.shows_ports() {
            return Err(Reason::Fragment);
        }
    }
    match tables.lengths(F::V6).after(place.scope) {
        Some(scope) => {
            scratch.scope = scope.number();
            Ok(())
        }
        None => {
            scratch.scope = Scratch::NOWHERE;
            if scratch.shows_ports() {
                Ok(())
            } else {
                Err(Reason::NoService)
            }
        }
    }
}

/// Whether a VIP has to do with such a packet at all.
#[inline(always)]
fn concerns<F: Family>(vip: &ServiceEntry, scratch: &Scratch) -> bool {
    let protocol = scratch.protocol as u8;
    // What hides behind an extension header may well be for a service of this VIP.
    let hides = F::V6 && !scratch.shows_ports() && is_extension_header(protocol);
    hides || protocol == F::ICMP || vip.flags.intersects(ServiceFlags::speaks(protocol))
}

/// One of the places where the service of a packet can be: its destination, or a prefix that holds that.
struct Candidate<'t, F: Family, T> {
    tables: &'t T,
    lookup: Lookup<'t, F, T>,
    address: F::Address,
    scope: Scope,
}

impl<'t, F: Family, T: ServiceTables> Candidate<'t, F, T> {
    #[inline(always)]
    fn of(tables: &'t T, scratch: &Scratch) -> Self {
        let scope = Scope::from_number(scratch.scope);
        let address = F::narrow(scratch.destination);
        Self {
            tables,
            lookup: Lookup::new(tables),
            address: match scope.length() {
                Some(length) => F::masked(address, length),
                None => address,
            },
            scope,
        }
    }

    /// Its VIP, if it is one.
    #[inline(always)]
    fn vip(&self) -> Option<ServiceEntry> {
        self.ask(Selector::vip(self.scope))
    }

    /// The service of the packet's port.
    #[inline(always)]
    fn service(&self, vip: &ServiceEntry, scratch: &Scratch) -> Option<ServiceEntry> {
        let protocol = scratch.protocol as u8;
        if !scratch.shows_ports() {
            return self.ask(Selector::portless(self.scope, protocol));
        }
        let exact = Selector::within(self.scope, scratch.destination_port(), protocol);
        self.ask(exact)
            .or_else(|| self.ranged(vip, u16::from_be(scratch.destination_port()), protocol))
            .or_else(|| self.any(protocol))
    }

    /// The service of a range that holds `port` (host order).
    #[inline(always)]
    fn ranged(&self, vip: &ServiceEntry, port: u16, protocol: u8) -> Option<ServiceEntry> {
        for bits in 1..=PortBlock::MAX_BITS {
            if vip.block_sizes() >> bits & 1 == 0 {
                continue;
            }
            let block = PortBlock::around(port, bits);
            let found = self.ask(Selector::block(self.scope, block, protocol));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    #[inline(always)]
    fn any(&self, protocol: u8) -> Option<ServiceEntry> {
        if !self.tables.features().intersects(Features::ANY_PORT) {
            return None;
        }
        self.ask(Selector::within(self.scope, 0, protocol))
    }

    #[inline(always)]
    fn ask(&self, selector: Selector) -> Option<ServiceEntry> {
        self.lookup.ask(self.address, selector)
    }
}
