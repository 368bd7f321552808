//! Where everything lies in the dataplane's tables, and how one layout becomes the next.
//!
//! [`Layout`] is the whole, [`placed_pool`] is one pool in its cells, [`space`] hands out cells and numbers,
//! [`published`], [`options`], [`quic_sets`] and [`records`] are what the tables say of all pools, and [`transition`]
//! makes the plan that leads to other pools.
//!
//! Invariant: a layout says what the tables hold once all writes that led to it are carried out. It changes only as a
//! copy of itself, so a plan that does not fit leaves nothing behind.

pub(super) mod extents;
mod fit;
pub(super) mod history;
pub(super) mod keys;
pub(super) mod options;
pub(super) mod placed_pool;
pub(super) mod placed_pools;
mod pool_view;
pub(super) mod pool_writes;
pub(super) mod published;
pub(super) mod quic_sets;
pub(super) mod records;
pub(super) mod space;
mod transition;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use lb_common::abi::{OptionsEntry, Slot};

pub use extents::Extents;
pub use fit::CapacityError;
pub use placed_pools::PoolsDelta;
pub use pool_view::PoolView;
pub use transition::Plan;

use super::{
    pools::{
        backend_state::Observed,
        owners::{PresentPool, SharedOwners},
        pool::{Pool, PoolKey, declared},
        slots::SlotTable,
    },
    tables::{capacity::Capacity, memory::Memory},
};
use crate::desired::{BackendId, ServiceName, Services};
use options::OptionsTable;
use placed_pool::{Cell, PlacedPool};
use placed_pools::PlacedPools;
use published::Published;
use quic_sets::QuicSets;
use records::Records;
use space::Space;

/// A backend of a service, by names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendRef {
    /// The service.
    pub service: ServiceName,
    /// The backend.
    pub backend: BackendId,
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(super) capacity: Capacity,
    /// Seed of the flow hash.
    seed: u64,
    pub(super) placed_pools: PlacedPools,
    pub(super) space: Space,
    pub(super) published: Published,
    pub(super) records: Records,
    pub(super) options: OptionsTable,
    pub(super) quic_sets: QuicSets,
    /// Whether flows have been cut or named otherwise since the last sweep.
    pub(super) sweep_is_due: bool,
    /// Options, by service number, that the next plan must write before anything else. They lead to no server IDs. An
    /// agent that died while it moved targets leaves server IDs which may name another service's targets soon.
    pub(super) options_without_server_ids: Vec<(u32, OptionsEntry)>,
    /// Whether the tables were read back and no plan has been made since. Packets may then be led to what waits here to
    /// be usable again.
    pub(super) is_recovered: bool,
}

impl Layout {
    /// Empty tables with that seed of the flow hash.
    pub fn new(capacity: Capacity, seed: u64) -> Self {
        Self {
            capacity,
            seed,
            placed_pools: PlacedPools::default(),
            space: Space::new(&capacity),
            published: Published::default(),
            records: Records::default(),
            options: OptionsTable::default(),
            quic_sets: QuicSets::new(capacity.quic_sets(), capacity.server_lines()),
            sweep_is_due: false,
            options_without_server_ids: Vec::new(),
            is_recovered: false,
        }
    }

    /// Seed of the flow hash.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The generation of the desired state that the tables show.
    pub fn generation(&self) -> u64 {
        self.published.control.generation
    }

    /// Target cells and slots in use.
    pub fn used(&self) -> (u32, u32) {
        let totals = self.placed_pools.totals();
        (totals.members as u32, totals.slots as u32)
    }

    /// How many slots have changed their owner of late.
    pub fn migrating_slots(&self) -> u64 {
        self.placed_pools.totals().migrating as u64
    }

    /// All pools that `services` want, as [`pools`] gives them. Slot tables that stay as they are come from this layout,
    /// since working them out is most of the work.
    ///
    /// [`pools`]: super::pools()
    pub fn pools(&self, services: &Services, observed: &impl Observed) -> Vec<Pool> {
        self.with_owners(declared(services.iter(), observed))
    }

    /// What becomes of the pools of the services `names`, which may differ from those in this layout. A layout that was
    /// read back says nothing of the others either: then all pools are there.
    pub fn pools_of<'n>(
        &self,
        names: impl IntoIterator<Item = &'n ServiceName>,
        services: &Services,
        observed: &impl Observed,
    ) -> PoolsDelta {
        if self.is_recovered {
            return self.delta_to(self.pools(services, observed));
        }
        let names: BTreeSet<&ServiceName> = names.into_iter().collect();
        let present = names.iter().filter_map(|name| services.get(name));
        let changed = self.with_owners(declared(present, observed));
        let wanted: HashSet<&PoolKey> = changed.iter().map(|pool| &pool.key).collect();
        let gone = names
            .iter()
            .flat_map(|name| self.placed_pools.keys_of(name))
            .filter(|key| !wanted.contains(key))
            .collect();
        PoolsDelta { changed, gone }
    }

    /// What leads from this layout's pools to `pools`, which are all that there are to be.
    pub(super) fn delta_to(&self, pools: Vec<Pool>) -> PoolsDelta {
        let wanted: HashSet<&PoolKey> = pools.iter().map(|pool| &pool.key).collect();
        let gone = self.placed_pools.keys().filter(|key| !wanted.contains(key));
        PoolsDelta {
            gone: gone.cloned().collect(),
            changed: pools,
        }
    }

    /// The pools with the owners of their slots.
    fn with_owners(&self, mut pools: Vec<Pool>) -> Vec<Pool> {
        let mut owners = SharedOwners::default();
        for pool in &mut pools {
            let placed = self.placed_pools.get(&pool.key);
            pool.slots = placed.map_or(0, |placed| placed.pool.slots).max(pool.slots);
            pool.owners = match placed {
                Some(placed) if placed.pool.shares_table_with(pool) => placed.pool.owners.clone(),
                placed => {
                    let present = placed.map(|placed| PresentPool {
                        pool: &placed.pool,
                        homes: placed.homes(pool),
                    });
                    owners.of(pool, present)
                }
            };
        }
        pools
    }

    /// Where a pool lies.
    pub fn pool(&self, key: &PoolKey) -> Option<PoolView<'_>> {
        self.placed_pools.get(key).map(|placed| PoolView(placed))
    }

    /// The name of the service with that number.
    pub fn service(&self, number: u32) -> Option<&ServiceName> {
        self.placed_pools
            .values()
            .find(|placed| placed.number == number)
            .map(|placed| &placed.pool.key.service)
    }

    /// The backend that each target cell in use belongs to.
    pub fn owners(&self) -> impl Iterator<Item = (u32, BackendRef)> {
        self.placed_pools.values().flat_map(|placed| placed.owners())
    }

    /// The backend of a service that each of its target cells belongs to.
    pub fn owners_of(&self, service: &ServiceName) -> impl Iterator<Item = (u32, BackendRef)> {
        let keys = self.placed_pools.keys_of(service);
        keys.filter_map(|key| self.placed_pools.get(&key))
            .flat_map(|placed| placed.owners())
    }

    /// Whether a backend has a target cell.
    pub fn has_cell_of(&self, backend_ref: &BackendRef) -> bool {
        let pools = self.placed_pools.keys_of(&backend_ref.service);
        pools
            .filter_map(|key| self.placed_pools.get(&key))
            .any(|placed| placed.owned().any(|(_, id, _)| id == backend_ref.backend))
    }

    /// The backend that the target cell of that index belongs to.
    pub fn owner(&self, index: u32) -> Option<BackendRef> {
        self.owners()
            .find(|(cell, _)| *cell == index)
            .map(|(_, backend_ref)| backend_ref)
    }

    /// Backends that packets may be sent to: those that own a slot, owned one before, or own a flow that is written down.
    /// A backend that drains may have nothing but such flows.
    pub fn serving(&self, memory: &mut (impl Memory + ?Sized)) -> HashSet<BackendRef> {
        let mut serving = HashSet::new();
        let mut by_number = HashMap::new();
        for placed in self.placed_pools.values() {
            let SlotTable {
                current,
                previous,
                migrating,
                ..
            } = &placed.slots;
            // The home of a lent slot is out.
            let before = migrating.iter().map(|entry| previous[entry.slot as usize]);
            let before = before.filter(|slot| !slot.is_lent());
            let named = current.iter().copied().chain(before).filter_map(Slot::owner);
            serving.extend(named.map(|owner| (placed.number, owner)));
            by_number.insert(placed.number, placed);
        }
        memory.visit_flows(&mut |_, value| {
            serving.insert((value.service(), value.owner()));
            None
        });
        let backend_ref = |(number, named): (u32, u32)| {
            let placed = by_number.get(&number)?;
            match placed.cells.get(placed.present_cell(named) as usize)? {
                Cell::Owned(backend, _) => Some(placed.backend_ref(*backend)),
                Cell::Free | Cell::Cooling(_) => None,
            }
        };
        serving.into_iter().filter_map(backend_ref).collect()
    }

    /// The cells of these pools that belong to a backend here and do not belong to it in `next`.
    pub(super) fn cells_given_up(&self, keys: &[PoolKey], next: &Self) -> Vec<(u32, BackendRef)> {
        let mut given_up = Vec::new();
        for old in keys.iter().filter_map(|key| self.placed_pools.get(key)) {
            let new = next.placed_pools.get(&old.pool.key);
            let stays = |local: u32, id| {
                new.is_some_and(|new| {
                    let same_run = new.targets.start == old.targets.start;
                    let cell = new.cells.get(local as usize);
                    same_run && matches!(cell, Some(Cell::Owned(owner, _)) if *owner == id)
                })
            };
            let gone = old.owned().filter(|(local, id, _)| !stays(*local, *id));
            given_up.extend(gone.map(|(local, id, _)| (old.targets.start + local, old.backend_ref(id))));
        }
        given_up
    }

    /// Makes all runs of cells that were given up usable at once. [`Wait`](super::Write::Wait) must have been carried out
    /// before.
    pub fn release_all(&mut self) {
        if !self.is_recovered {
            self.release(|_| true);
        }
    }

    /// Makes those cells usable that were given up at a time that is `cold`.
    fn release(&mut self, cold: impl Fn(Instant) -> bool) {
        self.quic_sets.release(&cold);
        self.space.release(cold);
    }

    /// Whether something that was given up waits to be usable again.
    pub fn has_retired(&self) -> bool {
        let cooling = |placed: &Arc<PlacedPool>| placed.cells.iter().any(|c| matches!(c, Cell::Cooling(_)));
        self.quic_sets.has_retired() || self.space.has_retired() || self.placed_pools.values().any(cooling)
    }
}
