//! Flows that wait for backends which are out.

use std::collections::HashMap;

use lb_common::abi::{FlowKey, FlowValue};

use super::{Cell, PlacedPool};
use crate::desired::BackendId;
use crate::plan::{
    layout::pool_writes::PoolWrites,
    pools::pool::{FlowFate, PoolMember},
    tables::write::Write,
};

/// An entry that has left the flow table while its backend is out and wanted back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::plan) struct Parked {
    pub(in crate::plan) id: BackendId,
    pub(in crate::plan) key: FlowKey,
    pub(in crate::plan) value: FlowValue,
}

impl PlacedPool {
    /// Gives flows back to backends that are back, and forgets the flows of backends that are not wanted any more.
    pub(in crate::plan) fn release_flows(&mut self, writes: &mut PoolWrites) {
        if self.parked.is_empty() {
            return;
        }
        let at = self.cell_of();
        let members: HashMap<BackendId, &PoolMember> = self
            .pool
            .members
            .iter()
            .map(|member| (member.id, member))
            .collect();
        let mut kept = Vec::new();
        for parked in self.parked.iter() {
            let Some((member, local)) = members.get(&parked.id).zip(at.get(&parked.id)) else {
                continue;
            };
            if member.flows != FlowFate::Cut {
                writes.flows.push(Write::Flow {
                    key: parked.key,
                    value: parked.value.with_owner(*local),
                });
            } else if member.away > 0 && self.awaits(parked) {
                kept.push(*parked);
            }
        }
        self.parked = kept.into();
    }

    /// Whether the slot of a flow waits for its backend. A flow that opens by the same ends meanwhile is then written
    /// down.
    pub(in crate::plan) fn awaits(&self, parked: &Parked) -> bool {
        let slot = parked.key.slot((self.slots.len() - 1) as u16);
        let home = self.slots.awaited(slot);
        home.is_some_and(|home| matches!(self.cells[home as usize], Cell::Owned(id, _) if id == parked.id))
    }
}
