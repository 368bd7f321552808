//! Where everything lies in the dataplane's tables, and the writes that lead from one layout to the next.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::{
    abi::{
        Control, Direction, Features, KEYS_PER_LINE_V4, KEYS_PER_LINE_V6, Key4, Key6, SLOTS_PER_LINE,
        Selector, Service as ServiceEntry, ServiceFlags, ServiceLine4, ServiceLine6, Slot, TableIndex,
        Target,
    },
    net::{TCP, UDP},
};

use super::{
    extents::Extents,
    pool::{Pool, PoolKey},
    service_table::{self, TableError},
    target::wide,
};
use crate::model::{BackendId, Protocol, ServiceName, ServicePort};

/// How long cells that were given up are left alone. A packet holds what it read for microseconds; a stalled virtual
/// CPU may stretch that.
const COOL_DOWN: Duration = Duration::from_secs(1);

/// Sizes of the dataplane's tables, fixed when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Services that fit.
    pub services: u32,
    /// Targets (backends of services) that fit.
    pub targets: u32,
    /// Slots of all tables together.
    pub slots: u32,
}

impl Capacity {
    /// log2 of the lines that service keys hash to; room for VIPs and nat answers beside the services themselves.
    pub fn service_bits(&self) -> u32 {
        (self.services.max(16) * 4).next_power_of_two().ilog2()
    }

    /// Lines of each service table: two halves, each as many again for chains.
    pub fn service_lines(&self) -> u32 {
        4 << self.service_bits()
    }

    /// Cells of the target table: a quarter more than targets, to move pools about in.
    pub fn target_cells(&self) -> u32 {
        self.targets + self.targets / 4
    }

    /// Lines of the slot table.
    pub fn slot_lines(&self) -> u32 {
        self.slots / SLOTS_PER_LINE
    }
}

/// The wish does not fit the tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// Too many targets.
    #[error("{wanted} backends in all services, at most {limit}: raise `max_targets` and restart")]
    Targets {
        /// What was asked for.
        wanted: usize,
        /// What fits.
        limit: u32,
    },
    /// No run of target cells is long enough.
    #[error("no room for {0} backends of {1} in a row: raise `max_targets` and restart")]
    TargetRun(u32, ServiceName),
    /// No run of slots is long enough.
    #[error("no room for a table of {0} slots of {1}: raise `max_slots` and restart")]
    SlotRun(u32, ServiceName),
    /// Too many services.
    #[error("{wanted} services, at most {limit}: raise `max_services` and restart")]
    Services {
        /// What was asked for.
        wanted: usize,
        /// What fits.
        limit: u32,
    },
    /// Too many keys.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// One step toward a plan's layout.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Wait until every packet that is on its way now has left.
    Wait,
    /// Fill a target cell that no packet can reach.
    Target {
        /// Its index.
        index: u32,
        /// Its content.
        target: Target,
    },
    /// Change the MACs of a target cell that packets may be reading: the next hop's in one store, our own after it.
    Macs {
        /// Its index.
        index: u32,
        /// Where the MACs are taken from.
        target: Target,
    },
    /// Bring a slot table to this content, one store a slot.
    Slots {
        /// First line of the table.
        line: u32,
        /// All of its slots.
        slots: Arc<[Slot]>,
    },
    /// Fill a half of the IPv4 service table that no packet reads.
    Services4 {
        /// First line of the half.
        line: u32,
        /// All of its lines.
        lines: Vec<ServiceLine4>,
    },
    /// Fill a half of the IPv6 service table that no packet reads.
    Services6 {
        /// First line of the half.
        line: u32,
        /// All of its lines.
        lines: Vec<ServiceLine6>,
    },
    /// Switch to the tables just written.
    Publish(Control),
}

/// What a plan leads to, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The layout once the writes are done.
    pub layout: Layout,
    /// The writes, in order.
    pub writes: Vec<Write>,
}

/// Keys of a service table and what they lead to.
type Entries<K> = Vec<(K, ServiceEntry)>;

/// Whom a target cell belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Whose {
    /// The service.
    pub service: ServiceName,
    /// Its backend.
    pub backend: BackendId,
}

/// A target cell of a pool.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    /// Never led to, or not for [`COOL_DOWN`].
    Free,
    /// Given up at that time.
    Cooling(Instant),
    /// Somebody's.
    Owned(BackendId, Target),
}

/// A pool and where it lies.
#[derive(Clone, Debug, PartialEq)]
struct Placed {
    pool: Pool,
    id: u32,
    targets: Range<u32>,
    cells: Vec<Cell>,
    slot_lines: Range<u32>,
    slots: Arc<[Slot]>,
}

/// A placed pool, for listings.
#[derive(Clone, Copy, Debug)]
pub struct PoolView<'a>(&'a Placed);

impl PoolView<'_> {
    /// Size of the slot table.
    pub fn slots(&self) -> usize {
        self.0.slots.len()
    }

    /// How many slots each backend of the pool owns now.
    pub fn owned(&self) -> HashMap<BackendId, usize> {
        let mut by_cell = vec![0; self.0.cells.len()];
        for owner in self.0.slots.iter().filter_map(|slot| slot.owner()) {
            by_cell[owner as usize] += 1;
        }
        self.0
            .owned()
            .map(|(local, id, _)| (id, by_cell[local as usize]))
            .collect()
    }
}

/// What was given up and may be used again later.
#[derive(Clone, Debug, PartialEq)]
struct Retired {
    at: Instant,
    targets: Range<u32>,
    slot_lines: Range<u32>,
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Layout {
    capacity: Capacity,
    placed: BTreeMap<PoolKey, Arc<Placed>>,
    targets: Extents,
    slot_lines: Extents,
    retired: Vec<Retired>,
    next_id: u32,
    keys4: Entries<Key4>,
    keys6: Entries<Key6>,
    control: Control,
    seed: u64,
    switched: Option<Instant>,
}

impl Layout {
    /// Empty tables with that seed of the flow hash.
    pub fn new(capacity: Capacity, seed: u64) -> Self {
        Self {
            capacity,
            placed: BTreeMap::new(),
            targets: Extents::new(capacity.target_cells()),
            slot_lines: Extents::new(capacity.slot_lines()),
            retired: Vec::new(),
            next_id: 0,
            keys4: Vec::new(),
            keys6: Vec::new(),
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

    /// Where a pool lies.
    pub fn pool(&self, key: &PoolKey) -> Option<PoolView<'_>> {
        self.placed.get(key).map(|placed| PoolView(placed))
    }

    /// The name of the service with that number.
    pub fn service(&self, id: u32) -> Option<&ServiceName> {
        self.placed
            .values()
            .find(|placed| placed.id == id)
            .map(|placed| &placed.pool.key.service)
    }

    /// Whom every target cell in use belongs to.
    pub fn owners(&self) -> impl Iterator<Item = (u32, Whose)> {
        self.placed.values().flat_map(|placed| {
            placed.owned().map(|(local, id, _)| {
                let whose = Whose {
                    service: placed.pool.key.service.clone(),
                    backend: id,
                };
                (placed.targets.start + local, whose)
            })
        })
    }

    /// Whom the target cell of that index belongs to.
    pub fn owner(&self, index: u32) -> Option<Whose> {
        self.owners()
            .find(|(cell, _)| *cell == index)
            .map(|(_, whose)| whose)
    }

    /// Makes everything that was given up usable at once. Only after [`Write::Wait`] has been carried out.
    pub fn release_all(&mut self) {
        self.release(|_| true);
        for placed in self.placed.values_mut() {
            Arc::make_mut(placed).release(|_| true);
        }
    }

    /// Whether something given up waits to be usable again.
    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty()
            || self
                .placed
                .values()
                .any(|p| p.cells.iter().any(|c| matches!(c, Cell::Cooling(_))))
    }

    /// The way from this layout to one that means `pools`, published as `generation`.
    ///
    /// # Errors
    /// When the pools do not fit; nothing changes then.
    pub fn plan(&self, pools: Vec<Pool>, generation: u64, now: Instant) -> Result<Plan, CapacityError> {
        self.check_capacity(&pools)?;
        let mut next = self.clone();
        let cold = |at: Instant| now.saturating_duration_since(at) >= COOL_DOWN;
        next.release(cold);
        let mut writes = Writes::default();
        let mut old = std::mem::take(&mut next.placed);
        let mut places = Vec::with_capacity(pools.len());
        // Pools that go are given up first, and pools that stay are changed before new ones look for room.
        for pool in pools {
            let present = old.remove(&pool.key);
            places.push((pool, present));
        }
        for gone in old.into_values() {
            next.retire(&gone, now);
        }
        places.sort_by_key(|(_, present)| present.is_none());
        for (pool, present) in places {
            let placed = match present {
                Some(placed) if placed.pool == pool => placed,
                Some(placed) => Arc::new(next.change(&placed, pool, now, &mut writes)?),
                None => Arc::new(next.place(pool, None, &mut writes)?),
            };
            next.placed.insert(placed.pool.key.clone(), placed);
        }
        let writes = next.publish(writes, generation, now)?;
        Ok(Plan { layout: next, writes })
    }

    fn check_capacity(&self, pools: &[Pool]) -> Result<(), CapacityError> {
        let Capacity {
            services, targets, ..
        } = self.capacity;
        let wanted: usize = pools.iter().map(|pool| pool.members.len()).sum();
        if wanted > targets as usize {
            return Err(CapacityError::Targets {
                wanted,
                limit: targets,
            });
        }
        let names: HashSet<&ServiceName> = pools.iter().map(|pool| &pool.key.service).collect();
        let wanted = names.len();
        if wanted > services as usize {
            return Err(CapacityError::Services {
                wanted,
                limit: services,
            });
        }
        Ok(())
    }

    fn release(&mut self, cold: impl Fn(Instant) -> bool) {
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

    fn retire(&mut self, placed: &Placed, at: Instant) {
        let (targets, slot_lines) = (placed.targets.clone(), placed.slot_lines.clone());
        self.retired.push(Retired {
            at,
            targets,
            slot_lines,
        });
    }

    /// A present pool takes a new meaning: in place if its cells allow, or else elsewhere.
    fn change(
        &mut self,
        placed: &Placed,
        pool: Pool,
        now: Instant,
        writes: &mut Writes,
    ) -> Result<Placed, CapacityError> {
        if pool.slots as usize == placed.slots.len()
            && let Some(changed) = placed.in_place(&pool, now, writes)
        {
            return Ok(changed);
        }
        self.retire(placed, now);
        self.place(pool, Some(placed.id), writes)
    }

    /// Finds new cells for a pool and fills them.
    fn place(&mut self, pool: Pool, id: Option<u32>, writes: &mut Writes) -> Result<Placed, CapacityError> {
        let members = pool.members.len() as u32;
        let name = || pool.key.service.clone();
        let take = |cells: &mut Extents, n| if n == 0 { Some(0..0) } else { cells.take(n) };
        // A quarter of room to grow in, if there is any, and as far as slots can name it.
        let roomy = (members + members / 4).min(u32::from(Slot::NONE.0));
        let targets = take(&mut self.targets, roomy)
            .or_else(|| take(&mut self.targets, members))
            .ok_or_else(|| CapacityError::TargetRun(members, name()))?;
        let slot_lines = self
            .slot_lines
            .take(pool.slots / SLOTS_PER_LINE)
            .ok_or_else(|| CapacityError::SlotRun(pool.slots, name()))?;
        let mut cells = vec![Cell::Free; targets.len()];
        for (cell, member) in cells.iter_mut().zip(&pool.members) {
            *cell = Cell::Owned(member.id, member.target);
        }
        let id = id.unwrap_or(self.next_id);
        self.next_id = self.next_id.max(id + 1);
        let mut placed = Placed {
            pool,
            id,
            targets,
            cells,
            slot_lines,
            slots: Arc::from([]),
        };
        for (local, _, target) in placed.owned() {
            writes.targets.push(Write::Target {
                index: placed.targets.start + local,
                target,
            });
        }
        placed.slots = placed.wanted_slots();
        writes.slots.push(Write::Slots {
            line: placed.slot_lines.start,
            slots: Arc::clone(&placed.slots),
        });
        Ok(placed)
    }

    /// Adds what makes the new tables visible.
    fn publish(
        &mut self,
        writes: Writes,
        generation: u64,
        now: Instant,
    ) -> Result<Vec<Write>, CapacityError> {
        let Writes { targets, slots } = writes;
        let mut all = targets;
        all.extend(slots);
        let (keys4, keys6, features) = self.keys();
        let present = self.control;
        let bits = self.control.service_bits;
        let mut halves = Vec::new();
        if keys4 != self.keys4 {
            let index = self.other_half(false);
            let table = service_table::build::<Key4, KEYS_PER_LINE_V4, 3>(&keys4, index)?;
            self.control.set_index(false, table.index);
            halves.push(Write::Services4 {
                line: table.index.base(),
                lines: table.lines,
            });
            self.keys4 = keys4;
        }
        if keys6 != self.keys6 {
            let index = self.other_half(true);
            let table = service_table::build::<Key6, KEYS_PER_LINE_V6, 5>(&keys6, index)?;
            self.control.set_index(true, table.index);
            halves.push(Write::Services6 {
                line: table.index.base(),
                lines: table.lines,
            });
            self.keys6 = keys6;
        }
        if !halves.is_empty() {
            // Packets may still read the half that was in use before the last switch.
            if self
                .switched
                .is_some_and(|at| now.saturating_duration_since(at) < COOL_DOWN)
            {
                all.push(Write::Wait);
            }
            self.switched = Some(now);
        }
        all.extend(halves);
        let both = Features(present.features.0 | features.0);
        if both != present.features {
            // The control line is stored word by word: what the new keys need to be found is on before they are.
            all.push(Write::Publish(Control {
                features: both,
                ..present
            }));
        }
        self.control.features = features;
        self.control.generation = generation;
        all.push(Write::Publish(self.control));
        Ok(all)
    }

    /// The half of a family's service table that no packet reads.
    fn other_half(&self, v6: bool) -> TableIndex {
        let used = self.control.index(v6, self.capacity.service_bits());
        TableIndex {
            half: 1 - used.half,
            ..used
        }
    }

    /// All keys of both service tables, sorted, and the look-ups that they make necessary.
    fn keys(&self) -> (Entries<Key4>, Entries<Key6>, Features) {
        let mut keys = Keys::default();
        for placed in self.placed.values() {
            placed.add_keys(&mut keys);
        }
        let Keys {
            mut v4,
            mut v6,
            vips,
            features,
        } = keys;
        for (vip, flags) in vips {
            add_key(
                &mut v4,
                &mut v6,
                vip,
                Selector::VIP,
                ServiceEntry {
                    flags,
                    id: u32::MAX,
                    ..Default::default()
                },
            );
        }
        v4.sort_by_key(|(key, _)| key.0);
        v6.sort_by_key(|(key, _)| key.0);
        (v4, v6, features)
    }
}

/// Writes of pools, by their place in the order.
#[derive(Default)]
struct Writes {
    targets: Vec<Write>,
    slots: Vec<Write>,
}

#[derive(Default)]
struct Keys {
    v4: Entries<Key4>,
    v6: Entries<Key6>,
    vips: HashMap<IpAddr, ServiceFlags>,
    features: Features,
}

fn add_key(
    v4: &mut Entries<Key4>,
    v6: &mut Entries<Key6>,
    address: IpAddr,
    selector: Selector,
    entry: ServiceEntry,
) {
    match address {
        IpAddr::V4(_) => v4.push((Key4::new(wide(address)[0] as u32, selector), entry)),
        IpAddr::V6(_) => v6.push((Key6::new(wide(address), selector), entry)),
    }
}

impl Placed {
    fn owned(&self) -> impl Iterator<Item = (u32, BackendId, Target)> {
        self.cells
            .iter()
            .enumerate()
            .filter_map(|(local, cell)| match cell {
                Cell::Owned(id, target) => Some((local as u32, *id, *target)),
                Cell::Free | Cell::Cooling(_) => None,
            })
    }

    fn release(&mut self, cold: impl Fn(Instant) -> bool) {
        for cell in &mut self.cells {
            if matches!(cell, Cell::Cooling(at) if cold(*at)) {
                *cell = Cell::Free;
            }
        }
    }

    /// This pool with a new meaning in the same cells; `None` when they do not suffice.
    fn in_place(&self, pool: &Pool, now: Instant, writes: &mut Writes) -> Option<Self> {
        let mut next = self.clone();
        let mut fills = Vec::new();
        next.release(|at| now.saturating_duration_since(at) >= COOL_DOWN);
        let mut at: HashMap<BackendId, usize> =
            self.owned().map(|(local, id, _)| (id, local as usize)).collect();
        for member in &pool.members {
            let present = at.remove(&member.id);
            let local = match present.map(|local| (local, &self.cells[local])) {
                // Out of reach while unresolved; the last known way is kept for answers still on the road.
                Some(_) if member.target == Target::default() => continue,
                Some((_, Cell::Owned(_, target))) if *target == member.target => continue,
                Some((local, Cell::Owned(_, target))) if *target == Target::default() => local,
                Some((local, Cell::Owned(_, target))) if differ_in_macs_only(target, &member.target) => {
                    next.cells[local] = Cell::Owned(member.id, member.target);
                    fills.push(Write::Macs {
                        index: self.targets.start + local as u32,
                        target: member.target,
                    });
                    continue;
                }
                present => {
                    if let Some((local, _)) = present {
                        next.cells[local] = Cell::Cooling(now);
                    }
                    next.cells.iter().position(|cell| *cell == Cell::Free)?
                }
            };
            next.cells[local] = Cell::Owned(member.id, member.target);
            fills.push(Write::Target {
                index: self.targets.start + local as u32,
                target: member.target,
            });
        }
        for gone in at.into_values() {
            next.cells[gone] = Cell::Cooling(now);
        }
        next.pool = pool.clone();
        next.slots = next.wanted_slots();
        if next.slots != self.slots && !self.same_front(pool) {
            // Slots change before keys do: packets that come by the old keys would meet the new backends.
            return None;
        }
        writes.targets.extend(fills);
        if next.slots != self.slots {
            writes.slots.push(Write::Slots {
                line: next.slot_lines.start,
                slots: Arc::clone(&next.slots),
            });
        }
        Some(next)
    }

    /// Whether the same packets lead to both pools, and by the same hash.
    fn same_front(&self, pool: &Pool) -> bool {
        let Pool {
            service, vips, flags, ..
        } = &self.pool;
        let keys = |service: &crate::model::Service| (service.protocol, service.port);
        *vips == pool.vips && *flags == pool.flags && keys(service) == keys(&pool.service)
    }

    /// The slot table that the pool's owners ask for.
    fn wanted_slots(&self) -> Arc<[Slot]> {
        let Some(owners) = &self.pool.owners else {
            return std::iter::repeat_n(Slot::NONE, self.pool.slots as usize).collect();
        };
        let at: HashMap<BackendId, u32> = self.owned().map(|(local, id, _)| (id, local)).collect();
        let slot = |member: &super::pool::PoolMember| {
            at.get(&member.id)
                .map_or(Slot::NONE, |l| Slot::owned_by(*l as u16))
        };
        let by_member: Vec<Slot> = self.pool.members.iter().map(slot).collect();
        owners
            .iter()
            .map(|owner| by_member[usize::from(*owner)])
            .collect()
    }

    fn add_keys(&self, keys: &mut Keys) {
        let Keys {
            v4,
            v6,
            vips,
            features,
        } = keys;
        let service = &self.pool.service;
        let (protocol, has) = match service.protocol {
            Protocol::Tcp => (TCP, ServiceFlags::HAS_TCP),
            Protocol::Udp => (UDP, ServiceFlags::HAS_UDP),
        };
        let port = service.port.exact().map_or(0, |port| port.get().to_be());
        if service.port == ServicePort::Any {
            features.0 |= Features::ANY_PORT;
        }
        let entry = ServiceEntry {
            slot_line: self.slot_lines.start,
            slot_mask: (self.slots.len() - 1) as u16,
            flags: self.pool.flags,
            target_base: self.targets.start,
            id: self.id,
        };
        for vip in &self.pool.vips {
            add_key(
                v4,
                v6,
                *vip,
                Selector::new(port, protocol, Direction::ToService),
                entry,
            );
            vips.entry(*vip).or_default().0 |= has;
        }
        for (local, id, target) in self.owned() {
            if target.forward != lb_common::abi::Forward::Nat as u8 {
                continue;
            }
            features.0 |= Features::RETURNS;
            let port = id.port.map_or(port, |port| port.get().to_be());
            let selector = Selector::new(port, protocol, Direction::FromBackend);
            add_key(
                v4,
                v6,
                id.address,
                selector,
                ServiceEntry {
                    target_base: self.targets.start + local,
                    ..entry
                },
            );
        }
    }
}

fn differ_in_macs_only(old: &Target, new: &Target) -> bool {
    Target {
        macs_head: new.macs_head,
        macs_tail: new.macs_tail,
        ..*old
    } == *new
}
