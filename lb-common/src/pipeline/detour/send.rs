//! Out to the backend.

use crate::{
    abi::{Forward, Reason, Target},
    net::ETHERNET,
};

use super::{
    super::{
        Packet, Tables,
        family::{Family, V4, V6},
        rewrite::{self, Nat},
        wrap::{Wrap, move_start, tags_len, write_link},
    },
    Kind, Seen, Step, translate,
};

/// Rewrites the packet toward its backend.
#[inline(always)]
pub(super) fn send<P: Packet, T: Tables>(packet: &mut P, tables: &T, seen: &mut Seen) -> Step {
    const NAT: u8 = Forward::Nat as u8;
    const LOCAL: u8 = Forward::Local as u8;
    let target = tables.target(seen.outcome.target).ok_or(Reason::Unresolved)?;
    match target.forward {
        LOCAL => Err(Reason::Local),
        NAT if seen.v6 == 0 => nat::<V4, P, T>(packet, tables, seen, target),
        NAT => nat::<V6, P, T>(packet, tables, seen, target),
        _ => packet.wrap(
            tables,
            Wrap {
                hash: seen.hash,
                target: seen.outcome.target,
                network: seen.network,
                len: seen.len,
                tos: seen.tos as u16,
                v6: seen.v6 as u16,
            },
        ),
    }
}

/// Moves the packet to where it stands behind the target's tags, and translates it there.
#[inline(always)]
fn nat<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    seen: &mut Seen,
    target: &Target,
) -> Step {
    let tags = tables.tags(seen.outcome.target).ok_or(Reason::Unresolved)?;
    let (len, macs) = (tags_len(target), (target.macs_head, target.macs_tail));
    let at = ETHERNET + len;
    move_start(packet, seen.network as usize, at)?;
    write_link::<F, P>(packet, macs, *tags, len).ok_or(Reason::Truncated)?;
    seen.moved_to(at);
    if seen.is(Kind::IcmpError) {
        let backend = target.addresses[Target::BACKEND];
        return translate::to_backend::<F, P>(packet, seen, backend, target.backend_port);
    }
    rewrite::nat::<F, P>(
        packet,
        &seen.ip_to_rewrite::<F>(),
        &seen.transport(),
        &Nat::to_backend::<F>(target),
    )
}
