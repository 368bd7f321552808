//! One pool in its cells.
//!
//! Invariant: a cell that packets can reach, or could reach of late, changes in its MACs only.

mod change;
mod parked;

use std::{
    collections::HashMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

pub(in crate::plan) use parked::Parked;

use crate::desired::BackendId;
use crate::plan::{
    layout::BackendRef,
    pools::{
        pool::{FlowFate, Pool},
        slots::SlotTable,
    },
    tables::target::TargetCell,
};
use crate::schedule::History;

/// How long cells that were given up are left alone. A packet holds what it read for microseconds; a stalled virtual
/// CPU may stretch that.
pub(in crate::plan) const COOL_DOWN: Duration = Duration::from_secs(1);

/// A target cell of a pool.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) enum Cell {
    /// No packet has been led to it for [`COOL_DOWN`], and no flow names it.
    Free,
    /// It was given up at that time.
    Cooling(Instant),
    /// It belongs to that backend.
    Owned(BackendId, TargetCell),
}

/// The index in a pool's run of each backend's cell. Its keys are the operator's own, so that a hash for speed will do.
pub(in crate::plan) type CellOf = HashMap<BackendId, u32, foldhash::fast::FixedState>;

/// A pool and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) struct PlacedPool {
    /// What the pool means.
    pub(in crate::plan) pool: Pool,
    /// The number by which service keys, flows and counters name the pool.
    pub(in crate::plan) number: u32,
    /// The run of target cells.
    pub(in crate::plan) targets: Range<u32>,
    /// What each cell of the run is. A backend keeps its cell's index as long as flows may name it, also when the pool
    /// moves.
    pub(in crate::plan) cells: Vec<Cell>,
    /// The run of lines of the slot table.
    pub(in crate::plan) slot_lines: Range<u32>,
    /// The slots in these lines.
    pub(in crate::plan) slots: SlotTable,
    /// Pairs of cells, old and new, of backends that have another cell now. Flows may still name the old one.
    pub(in crate::plan) renamed: Vec<(u32, u32)>,
    /// How the slots came to be, if the scheduler starts from the present ones. A pool that was read back may lack its
    /// history.
    pub(in crate::plan) history: Option<Arc<History>>,
    /// Flows that wait for backends which are out and wanted back.
    pub(in crate::plan) parked: Arc<[Parked]>,
}

impl PlacedPool {
    /// The cells that belong to backends: index in the run, backend, content.
    pub(in crate::plan) fn owned(&self) -> impl Iterator<Item = (u32, BackendId, TargetCell)> {
        self.cells
            .iter()
            .enumerate()
            .filter_map(|(local, cell)| match cell {
                Cell::Owned(id, entry) => Some((local as u32, *id, *entry)),
                Cell::Free | Cell::Cooling(_) => None,
            })
    }

    /// The cells that belong to backends: index in the map, backend by names.
    pub(in crate::plan) fn owners(&self) -> impl Iterator<Item = (u32, BackendRef)> {
        self.owned()
            .map(|(local, id, _)| (self.targets.start + local, self.backend_ref(id)))
    }

    /// The index in the run of each backend's cell.
    pub(in crate::plan) fn cell_of(&self) -> CellOf {
        self.owned().map(|(local, id, _)| (id, local)).collect()
    }

    /// That backend of this pool, by names.
    pub(in crate::plan) fn backend_ref(&self, backend: BackendId) -> BackendRef {
        BackendRef {
            service: self.pool.key.service.clone(),
            backend,
        }
    }

    /// The index in the run of the cell that a backend has now, where a flow or a slot names it by cell `named`.
    pub(in crate::plan) fn present_cell(&self, named: u32) -> u32 {
        let renamed = self.renamed.iter().find(|(from, _)| *from == named);
        renamed.map_or(named, |(_, to)| *to)
    }

    /// Lets flows that name cell `from` belong to cell `to` from now on.
    fn rename(&mut self, from: u32, to: u32) {
        for (_, last) in &mut self.renamed {
            if *last == from {
                *last = to;
            }
        }
        self.renamed.push((from, to));
    }

    /// What becomes of the flows of the backend in each cell.
    pub(in crate::plan) fn flows_by_cell(&self) -> Vec<FlowFate> {
        let mut flows = vec![FlowFate::Cut; self.cells.len()];
        let at = self.cell_of();
        for member in &self.pool.members {
            if let Some(local) = at.get(&member.id) {
                flows[*local as usize] = member.flows;
            }
        }
        flows
    }

    /// Whether `next` cuts flows that live here, or names their backends by other cells.
    pub(in crate::plan) fn flows_change_in(&self, next: &Self) -> bool {
        let (now, then) = (self.flows_by_cell(), next.flows_by_cell());
        next.renamed.len() > self.renamed.len()
            || now
                .iter()
                .zip(&then)
                .any(|(now, then)| *now != FlowFate::Cut && *then == FlowFate::Cut)
    }
}
