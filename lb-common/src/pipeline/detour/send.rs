//! Out to the backend.

use crate::abi::Reason;

use super::{
    super::{
        Packet, Tables,
        family::{Family, V4, V6},
        rewrite,
    },
    Seen, Step,
};

/// Rewrites the packet toward its backend.
#[inline(always)]
pub(super) fn send<P: Packet, T: Tables>(packet: &mut P, tables: &T, seen: &mut Seen) -> Step {
    if seen.v6 == 0 {
        within::<V4, P, T>(packet, tables, seen)
    } else {
        within::<V6, P, T>(packet, tables, seen)
    }
}

#[inline(always)]
fn within<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, seen: &mut Seen) -> Step {
    let target = tables.target(seen.outcome.target).ok_or(Reason::Unresolved)?;
    rewrite::toward_backend::<F, P>(packet, target, &seen.ip::<F>(), &seen.transport(), seen.hash)
}
