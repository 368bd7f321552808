//! Where everything lies in the dataplane's tables.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Instant};

use lb_common::abi::{Control, Key4, Key6, OptionsEntry};

use super::{
    capacity::Capacity,
    extents::Extents,
    keys::Entries,
    options::OptionsTable,
    placed_pool::{Cell, PlacedPool, PoolView},
    pool::{Observed, Pool, PoolKey, pools_after},
    record::Records,
    routing::Routing,
};
use crate::desired::{BackendId, ServiceName, Services};

/// Whom a target cell belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendRef {
    /// The service.
    pub service: ServiceName,
    /// Its backend.
    pub backend: BackendId,
}

/// Cells that were given up and may be used again later.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Retired {
    pub(super) at: Instant,
    pub(super) targets: Range<u32>,
    pub(super) slot_lines: Range<u32>,
}

/// The number of a pool that is gone. Flows may still name it: it rests until they have been swept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RetiredNumber {
    pub(super) at: Instant,
    pub(super) number: u32,
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(super) capacity: Capacity,
    pub(super) placed: BTreeMap<PoolKey, Arc<PlacedPool>>,
    pub(super) targets: Extents,
    pub(super) slot_lines: Extents,
    pub(super) numbers: Extents,
    pub(super) retired: Vec<Retired>,
    pub(super) retired_numbers: Vec<RetiredNumber>,
    /// Whether flows are cut or named otherwise since the last sweep.
    pub(super) sweep_is_due: bool,
    pub(super) keys4: Entries<Key4>,
    pub(super) keys6: Entries<Key6>,
    pub(super) records: Records,
    pub(super) options: OptionsTable,
    pub(super) routing: Routing,
    /// Options of services whose server IDs may name targets that are somebody else's soon, without these: so they are
    /// where an agent died while it moved targets.
    pub(super) astray: Vec<(u32, OptionsEntry)>,
    /// Whether packets may be led to what waits here to be usable again: so it is after tables were read back, until
    /// the next plan.
    pub(super) recalled: bool,
    pub(super) control: Control,
    seed: u64,
    pub(super) switched: Option<Instant>,
}

impl Layout {
    /// Empty tables with that seed of the flow hash.
    pub fn new(capacity: Capacity, seed: u64) -> Self {
        Self {
            capacity,
            placed: BTreeMap::new(),
            targets: Extents::new(capacity.target_cells()),
            slot_lines: Extents::new(capacity.slot_lines()),
            numbers: Extents::new(capacity.numbers()),
            retired: Vec::new(),
            retired_numbers: Vec::new(),
            sweep_is_due: false,
            keys4: Vec::new(),
            keys6: Vec::new(),
            records: Records::default(),
            options: OptionsTable::default(),
            routing: Routing::new(capacity.quic_sets(), capacity.server_lines()),
            astray: Vec::new(),
            recalled: false,
            control: Control::default(),
            seed,
            switched: None,
        }
    }

    /// Seed of the flow hash.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Target cells and slots in use.
    pub fn used(&self) -> (u32, u32) {
        let targets = self.placed.values().map(|p| p.pool.members.len() as u32).sum();
        (targets, self.placed.values().map(|p| p.slots.len() as u32).sum())
    }

    /// Slots whose owner changed of late.
    pub fn migrating_slots(&self) -> u64 {
        self.placed.values().map(|p| p.slots.migrating.len() as u64).sum()
    }

    /// What [`pools`] says, but slot tables are taken from here where they stay as they are: working them out is most
    /// of the work.
    ///
    /// [`pools`]: super::pools
    pub fn pools(&self, services: &Services, observed: &impl Observed) -> Vec<Pool> {
        pools_after(services, observed, |key| self.placed.get(key).map(Arc::as_ref))
    }

    /// Where a pool lies.
    pub fn pool(&self, key: &PoolKey) -> Option<PoolView<'_>> {
        self.placed.get(key).map(|placed| PoolView(placed))
    }

    /// The name of the service with that number.
    pub fn service(&self, number: u32) -> Option<&ServiceName> {
        self.placed
            .values()
            .find(|placed| placed.number == number)
            .map(|placed| &placed.pool.key.service)
    }

    /// Whom every target cell in use belongs to.
    pub fn owners(&self) -> impl Iterator<Item = (u32, BackendRef)> {
        self.placed.values().flat_map(|placed| {
            placed.owned().map(|(local, id, _)| {
                let backend_ref = BackendRef {
                    service: placed.pool.key.service.clone(),
                    backend: id,
                };
                (placed.targets.start + local, backend_ref)
            })
        })
    }

    /// Whom the target cell of that index belongs to.
    pub fn owner(&self, index: u32) -> Option<BackendRef> {
        self.owners()
            .find(|(cell, _)| *cell == index)
            .map(|(_, backend_ref)| backend_ref)
    }

    /// Whether a cell that belongs to somebody here does not in `next`.
    pub fn gives_up_cells(&self, next: &Self) -> bool {
        let keeps = |old: &Arc<PlacedPool>| {
            let new = next.placed.get(&old.pool.key);
            new.is_some_and(|new| Arc::ptr_eq(old, new) || old.keeps_its_cells_in(new))
        };
        !self.placed.values().all(keeps)
    }

    /// Makes all runs of cells that were given up usable at once. Only after [`Wait`](super::Write::Wait) has been carried
    /// out.
    pub fn release_all(&mut self) {
        if !self.recalled {
            self.release(|_| true);
        }
    }

    /// Whether something given up waits to be usable again.
    pub fn has_retired(&self) -> bool {
        let cooling = |placed: &Arc<PlacedPool>| placed.cells.iter().any(|c| matches!(c, Cell::Cooling(_)));
        self.routing.has_retired()
            || !self.retired.is_empty()
            || !self.retired_numbers.is_empty()
            || self.placed.values().any(cooling)
    }
    pub(super) fn release(&mut self, cold: impl Fn(Instant) -> bool) {
        self.routing.release(&cold);
        let (free, keep) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition::<Vec<_>, _>(|r| cold(r.at));
        self.retired = keep;
        for Retired {
            targets, slot_lines, ..
        } in free
        {
            if !targets.is_empty() {
                self.targets.give(targets);
            }
            self.slot_lines.give(slot_lines);
        }
    }

    pub(super) fn retire(&mut self, placed: &PlacedPool, at: Instant) {
        let (targets, slot_lines) = (placed.targets.clone(), placed.slot_lines.clone());
        self.retired.push(Retired {
            at,
            targets,
            slot_lines,
        });
    }
}
