//! Out to the backend.

use crate::{
    abi::{FlowEnds, Forward, Reason, TargetEntry},
    net::ETHERNET,
};

use super::{
    super::{
        Packet, Tables, Wrap,
        family::{Family, V4, V6},
        wrap::{move_start, tags_len, write_link},
    },
    Scratch, StepResult,
    translate::translate,
};

/// Rewrites the packet toward its backend.
#[inline(always)]
pub(super) fn send<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> StepResult {
    let target = tables.target(scratch.outcome.target).ok_or(Reason::Unresolved)?;
    match target.forward {
        Forward::Local => Err(Reason::Local),
        Forward::Nat | Forward::FullNat => {
            if target.forward == Forward::Nat {
                scratch.to = to_backend(scratch, target);
            } else if scratch.to.protocol == 0 {
                // Nobody has given its flow a place.
                return Err(Reason::Unresolved);
            }
            if scratch.v6 == 0 {
                nat::<V4, P, T>(packet, tables, scratch, target)
            } else {
                nat::<V6, P, T>(packet, tables, scratch, target)
            }
        }
        _ => packet.wrap(
            tables,
            Wrap {
                hash: scratch.hash,
                target: scratch.outcome.target,
                network: scratch.network,
                len: scratch.len,
                tos: scratch.tos as u16,
                v6: scratch.v6 as u16,
            },
        ),
    }
}

/// Moves the packet to where it stands behind the target's tags, and translates it there.
#[inline(always)]
fn nat<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    target: &TargetEntry,
) -> StepResult {
    let tags = tables.tags(scratch.outcome.target).ok_or(Reason::Unresolved)?;
    let (len, macs) = (tags_len(target), (target.macs_head, target.macs_tail));
    let at = ETHERNET + len;
    move_start(packet, scratch.network as usize, at)?;
    write_link::<F, P>(packet, macs, *tags, len).ok_or(Reason::Truncated)?;
    scratch.move_to(at as u32);
    translate::<F, P>(packet, scratch, &scratch.to, true).ok_or(Reason::Truncated)
}

/// The flow's ends as its backend sees them.
#[inline(always)]
fn to_backend(scratch: &Scratch, target: &TargetEntry) -> FlowEnds {
    let port = match target.backend_port {
        0 => scratch.destination_port(),
        port => port,
    };
    FlowEnds {
        destination: target.addresses[TargetEntry::BACKEND],
        ports: FlowEnds::ports(scratch.source_port(), port),
        ..scratch.ends()
    }
}
