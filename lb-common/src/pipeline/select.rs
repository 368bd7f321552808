//! Which backend a flow belongs to.

use crate::{
    abi::{FlowKey, Reason, SLOTS_PER_LINE, ServiceEntry, ServiceFlags, Slot, TargetEntry},
    flow::Query,
};

use super::{FlowTables, Host, Outcome, ServiceTables, family::Family};

/// What decides the slot: the flow, or with affinity its client alone.
#[inline(always)]
pub(super) fn flow_hash<F: Family>(service: &ServiceEntry, source: F::Address, ports: u32, seed: u64) -> u64 {
    let ports = if service.flags.intersects(ServiceFlags::CLIENT_IP) {
        0
    } else {
        ports
    };
    F::hash(source, ports, seed)
}

/// The backend that the flow belongs to: its slot's owner, unless that has changed of late. `flow` hashes the flow by
/// all of its ports; a packet that `leaves_traces` may be written down as its flow's first.
#[inline(always)]
pub(super) fn pick<'t, T: ServiceTables + FlowTables + Host>(
    tables: &'t T,
    service: &ServiceEntry,
    hash: u64,
    flow: impl Fn() -> u64,
    leaves_traces: bool,
    outcome: &mut Outcome,
) -> Result<&'t TargetEntry, Reason> {
    let slot = (hash >> 48) as u32 & u32::from(service.slot_mask);
    outcome.slot = slot;
    let slot_index = service.slot_line * SLOTS_PER_LINE + slot;
    let line = tables
        .slots(slot_index / SLOTS_PER_LINE)
        .ok_or(Reason::NoBackend)?;
    let slot = line.0[(slot_index % SLOTS_PER_LINE) as usize];
    // The flag of a slot and the flag of a service that tracks all flows are the same bit.
    let owner = if Slot(slot.0 | service.flags.bits()).is_migrating() {
        let flow = if service.flags.intersects(ServiceFlags::CLIENT_IP) {
            flow()
        } else {
            hash
        };
        let mut packet = Query::packet(slot, outcome.tcp_flags as u8);
        if !leaves_traces || tables.explains() {
            packet |= Query::IS_EXPLAINED;
        }
        look_up(
            tables,
            service,
            FlowKey::new(hash, flow),
            packet,
            slot_index,
            outcome,
        )
    } else {
        slot.owner()
    };
    let Some(owner) = owner else {
        let pass = service.flags.intersects(ServiceFlags::PASS_WHEN_EMPTY);
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

/// Asks the flow table whom the flow belongs to. `packet` is as in [`Query`], `slot_index` the index of its slot in `SLOTS`.
#[inline(always)]
fn look_up<T: FlowTables>(
    tables: &T,
    service: &ServiceEntry,
    key: FlowKey,
    mut packet: u32,
    slot_index: u32,
    outcome: &mut Outcome,
) -> Option<u32> {
    if service.flags.intersects(ServiceFlags::TRACK_ALWAYS) {
        packet |= Query::IS_ALWAYS;
    }
    let selected = tables.look_up(&Query {
        key,
        service: service.id,
        packet,
        slot_index,
    });
    outcome.placement = selected.placement();
    Slot::owned_by(selected.owner() as u16).owner()
}
