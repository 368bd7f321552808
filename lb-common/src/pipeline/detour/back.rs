//! Back to the client.

use super::{
    super::{
        Packet, Tables, back,
        family::{Family, V4, V6},
    },
    Seen, Step,
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
    Err(back::give_back::<F, P, T>(
        packet,
        tables,
        &ip,
        &transport,
        &mut seen.outcome,
    )?)
}
