//! Back to the client.

use crate::{
    abi::{Reason, Target},
    net::ETHERNET,
};

use super::{
    super::{
        Packet, Tables,
        back::answer_of,
        family::{Family, V4, V6},
        wrap::{move_start, write_link},
    },
    Kind, Seen, Step, translate,
};

/// Takes the answer of a backend to its client.
#[inline(always)]
pub(super) fn give_back<P: Packet, T: Tables>(packet: &mut P, tables: &T, seen: &mut Seen) -> Step {
    if seen.v6 == 0 {
        within::<V4, P, T>(packet, tables, seen)
    } else {
        within::<V6, P, T>(packet, tables, seen)
    }
}

#[inline(always)]
fn within<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, seen: &mut Seen) -> Step {
    let (ip, transport) = (seen.ip::<F>(), seen.transport());
    let answer = answer_of::<F, T>(tables, &ip, &transport, &mut seen.outcome)?;
    let len = usize::from(answer.tags.bytes());
    let at = ETHERNET + len;
    move_start(packet, seen.network as usize, at)?;
    write_link::<F, P>(packet, answer.macs, answer.tags, len).ok_or(Reason::Truncated)?;
    seen.moved_to(at);
    if seen.is(Kind::IcmpError) {
        let Target {
            addresses, vip_port, ..
        } = *answer.target;
        translate::to_client::<F, P>(packet, seen, addresses[Target::VIP], vip_port)?;
        return Err(Reason::Returned);
    }
    Err(answer.restore::<F, P>(packet, &seen.ip_to_rewrite::<F>(), &transport)?)
}
