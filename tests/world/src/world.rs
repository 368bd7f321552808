//! Services as pools of the planner, and tables in plain memory for them.

use std::{net::IpAddr, time::Instant};

use anyhow::{Context as _, Result};
use lb_core::desired::{BackendId, Services};
use lb_core::plan::{
    Capacity, InMemory, Layout, Memory, NextHop, Observed, Pool, TunnelSources, Write, apply, source_pools,
};

use crate::{Interfaces, SourcePool, Surroundings, macs};

/// The flow hash's seed.
pub const SEED: u64 = 0x5eed_0f5e_ed0f_5eed;

/// The services, as pools of the planner: what the tables mean.
#[derive(Debug)]
pub struct World {
    /// Who serves which VIPs, and which of them each slot belongs to.
    pub pools: Vec<Pool>,
    /// The pools before each change, the oldest first. Slots that a change has moved are migrating.
    earlier: Vec<Vec<Pool>>,
    capacity: Capacity,
    surroundings: Surroundings,
    source_pool: SourcePool,
}

impl World {
    /// A world of tables of that size whose services have been those of `history`, one set after the other.
    ///
    /// # Errors
    /// When `history` is empty, or an earlier set does not fit.
    pub fn new(
        history: &[Services],
        capacity: Capacity,
        surroundings: Surroundings,
        source_pool: SourcePool,
    ) -> Result<Self> {
        let (last, before) = history.split_last().context("a world has services")?;
        let mut layout = Layout::new(capacity, SEED);
        let mut earlier = Vec::new();
        for (generation, services) in (1..).zip(before) {
            let pools = layout.pools(services, &surroundings);
            layout = layout.plan(pools.clone(), generation, Instant::now())?.layout;
            earlier.push(pools);
        }
        Ok(Self {
            pools: layout.pools(last, &surroundings),
            earlier,
            capacity,
            surroundings,
            source_pool,
        })
    }

    /// Lays the world out in `memory`, by the planner.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn lay_out(&self, memory: &mut (impl Memory + ?Sized)) -> Result<Layout> {
        self.lay_out_spoiled(memory, |_| ())
    }

    /// Lays the world out in `memory`, by the planner, with writes that `spoil` may make wrong.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn lay_out_spoiled(
        &self,
        memory: &mut (impl Memory + ?Sized),
        spoil: impl Fn(&mut [Write]),
    ) -> Result<Layout> {
        let mut layout = Layout::new(self.capacity, SEED);
        for (generation, pools) in (1..).zip(self.earlier.iter().chain([&self.pools])) {
            let plan = layout.plan(pools.clone(), generation, Instant::now())?;
            layout = plan.layout;
            let mut writes = plan.writes;
            spoil(&mut writes);
            apply(&writes, memory);
        }
        Ok(layout)
    }

    /// The index of a pool among [`World::pools`].
    pub fn number(&self, pool: &Pool) -> usize {
        let number = self.pools.iter().position(|other| other.key == pool.key);
        number.unwrap_or(self.pools.len())
    }

    /// The backend that a pool's slot belongs to, and the one that it belonged to before the last change.
    pub fn owners(&self, pool: &Pool, slot: usize) -> Option<[BackendId; 2]> {
        let owner = |pool: &Pool| {
            let owner = *pool.owners.as_ref()?.get(slot)?;
            Some(pool.members[usize::from(owner)].id)
        };
        let before = self.earlier.last().into_iter().flatten();
        let before = before.into_iter().find(|other| other.key == pool.key);
        let current = owner(pool)?;
        Some([current, before.and_then(owner).unwrap_or(current)])
    }

    /// Where packets to that backend go next.
    pub fn next_hop(&self, backend: IpAddr) -> Option<NextHop> {
        self.surroundings.next_hop(backend)
    }

    /// Where `fullnat` flows come from, in their backends' eyes.
    pub const fn source_pool(&self) -> &SourcePool {
        &self.source_pool
    }

    /// Where outer source addresses of tunnels are taken from.
    pub fn tunnel_sources(&self) -> &TunnelSources {
        self.surroundings.tunnel_sources()
    }

    /// The balancer's interfaces.
    pub const fn interfaces(&self) -> Interfaces {
        self.surroundings.interfaces()
    }

    /// Table sizes.
    pub const fn capacity(&self) -> &Capacity {
        &self.capacity
    }
}

/// Empty tables in plain memory, of a balancer with those interfaces and that pool.
pub fn in_memory(capacity: &Capacity, interfaces: Interfaces, sources: &SourcePool) -> InMemory {
    let mut memory = InMemory::new(capacity, SEED);
    memory.ingress = interfaces.front;
    memory.macs = macs(interfaces);
    (memory.nat_sources, memory.source_pools) = source_pools(&sources.addresses, sources.ports.clone());
    memory
}
