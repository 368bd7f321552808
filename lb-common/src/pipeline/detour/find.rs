//! Whom a packet is for.

use crate::{
    abi::{Direction, Reason, Selector, ServiceFlags},
    net::{TCP, UDP, is_extension_header},
};

use super::{
    super::{
        Tables,
        family::{Family, V4, V6},
        services::Lookup,
    },
    Kind, Seen, Step,
};

/// Finds the service, if there is one.
#[inline(always)]
pub(super) fn find<T: Tables>(tables: &T, seen: &mut Seen) -> Step {
    if seen.v6 == 0 {
        within::<V4, T>(tables, seen)
    } else {
        within::<V6, T>(tables, seen)
    }
}

#[inline(always)]
fn within<F: Family, T: Tables>(tables: &T, seen: &mut Seen) -> Step {
    let lookup = Lookup::<F, T>::new(tables);
    let (address, protocol) = (F::narrow(seen.destination), seen.protocol as u8);
    if seen.is(Kind::NoPorts) {
        return Err(without_ports::<F, T>(&lookup, seen));
    }
    let found = lookup.exact_or_any(address, seen.destination_port(), protocol, Direction::ToService);
    if let Some(service) = found {
        seen.service = service;
        seen.outcome.service = service.id;
    }
    Ok(())
}

/// What cannot be parsed is dropped only if it is for a service; all else is the host's.
#[inline(always)]
fn without_ports<F: Family, T: Tables>(lookup: &Lookup<'_, F, T>, seen: &Seen) -> Reason {
    let Some(vip) = lookup.find(F::narrow(seen.destination), Selector::VIP) else {
        return Reason::NoService;
    };
    let oddity = seen.oddity().unwrap_or(Reason::NoService);
    let concerns_us = match seen.protocol as u8 {
        // The host puts fragmented echo requests together by itself; broken ones nobody answers.
        icmp if icmp == F::ICMP => !matches!(oddity, Reason::Fragment | Reason::ExtensionHeader),
        TCP => vip.flags.has(ServiceFlags::HAS_TCP),
        UDP => vip.flags.has(ServiceFlags::HAS_UDP),
        // What hides behind an extension header may well be for a service of this VIP.
        other => F::V6 && is_extension_header(other),
    };
    if concerns_us { oddity } else { Reason::NoService }
}
