//! Echo requests to a VIP that stand behind VLAN tags, or whose VIP is a prefix.

use super::{
    super::{
        Packet, echo,
        family::{Family, V4, V6},
    },
    Seen, Step,
};

/// Answers the echo request.
#[inline(always)]
pub(super) fn echo<P: Packet>(packet: &mut P, seen: &mut Seen) -> Step {
    if seen.v6 == 0 {
        within::<V4, P>(packet, seen)
    } else {
        within::<V6, P>(packet, seen)
    }
}

#[inline(always)]
fn within<F: Family, P: Packet>(packet: &mut P, seen: &Seen) -> Step {
    Err(echo::reply::<F, P>(packet, &seen.ip::<F>())?)
}
