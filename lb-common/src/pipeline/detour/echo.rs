//! Echo requests to a VIP that stand behind VLAN tags, whose VIP is a prefix, or whose reply's sum comes to zero.

use crate::abi::Reason;

use super::{
    super::{
        Packet, echo,
        family::{Family, V4, V6},
        parse::Ip,
    },
    Scratch, StepResult,
};

/// Answers the echo request.
#[inline(always)]
pub(super) fn echo<P: Packet>(packet: &mut P, scratch: &mut Scratch) -> StepResult {
    if scratch.v6 == 0 {
        within::<V4, P>(packet, scratch)
    } else {
        within::<V6, P>(packet, scratch)
    }
}

#[inline(always)]
fn within<F: Family, P: Packet>(packet: &mut P, scratch: &Scratch) -> StepResult {
    let ip = scratch.ip::<F>();
    let icmp: &[u8; 8] = packet.view(ip.transport).ok_or(Reason::Truncated)?;
    let sum = match echo::reply_sum::<F>(icmp) {
        // ICMPv6's covers a pseudo header, which is never all zero.
        0 if !F::V6 && is_zero_but_for_its_type(packet, &ip).ok_or(Reason::Truncated)? => 0xffff,
        sum => sum,
    };
    Err(echo::reply::<F, P>(packet, &ip, sum)?)
}

/// Whether all of an ICMP message is 0 but for type, code and checksum. What is behind the bytes that are summed at most
/// does not matter: to whoever sums it, both zeros are good then.
#[inline(always)]
fn is_zero_but_for_its_type<P: Packet, A>(packet: &P, ip: &Ip<A>) -> Option<bool> {
    const BEFORE: usize = 4;
    let at = ip.transport + BEFORE;
    let len = (ip.network + usize::from(ip.len)).saturating_sub(at);
    Some(packet.sum(at, len)? == 0)
}
