//! Going on with the tables of an earlier agent, without a moment in which they lose what it knew.
//!
//! Invariant: the first plan is made when this agent knows at least what the tables show: the ways to the backends
//! that packets go to, and that these were well when last anybody looked.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{sync::watch, time::timeout};

use super::tally::Tally;
use crate::{
    dataplane::{Dataplane, MappedTables, Origin},
    netlink::{Resolution, ResolverHandle, Snapshot},
    plan::{Layout, ReadBack, Whose},
};

/// How long to wait for ways that the kernel has lost meanwhile. Backends without one lose their slots after that, as
/// they do at any time.
const WAYS_FOUND: Duration = Duration::from_secs(3);

/// What the tables of an earlier agent say; nothing for new ones.
pub(super) struct Takeover {
    pub(super) layout: Layout,
    /// The generation that is in force.
    pub(super) generation: u64,
    /// Who owns slots, or owned one before and still has flows.
    pub(super) serving: HashSet<Whose>,
    /// The counters, which go on.
    pub(super) tally: Tally,
}

impl Takeover {
    /// Reads the tables back.
    ///
    /// # Errors
    /// When they are damaged; the message says what to do.
    pub(super) fn of(dataplane: &Dataplane, tables: &mut MappedTables) -> Result<Self> {
        let (capacity, seed) = (dataplane.capacity(), dataplane.meta().seed);
        let (layout, tally) = match dataplane.origin() {
            Origin::New => (Layout::new(capacity, seed), Tally::default()),
            Origin::Adopted => {
                let layout = Layout::adopt(capacity, seed, tables, Instant::now())?;
                (layout, tally(dataplane)?)
            }
        };
        Ok(Self {
            tally,
            generation: tables.read_control().generation,
            serving: layout.serving().collect(),
            layout,
        })
    }

    /// Waits until the ways to all backends that own slots are known, for a few seconds at most.
    pub(super) async fn find_ways(
        &self,
        resolver: &ResolverHandle,
        hops: &mut watch::Receiver<Snapshot>,
    ) -> Result<()> {
        let addresses: BTreeSet<IpAddr> = self.serving.iter().map(|whose| whose.backend.address).collect();
        if addresses.is_empty() {
            return Ok(());
        }
        resolver.set_addresses(addresses.clone())?;
        let known = |hops: &Snapshot| {
            let way = |address| hops.get(address).and_then(Resolution::next_hop);
            addresses.iter().all(|address| way(address).is_some())
        };
        match timeout(WAYS_FOUND, hops.wait_for(known)).await {
            Ok(found) => drop(found?),
            Err(_) => log::warn!("not every backend that packets go to can be reached any more"),
        }
        Ok(())
    }
}

fn tally(dataplane: &Dataplane) -> Result<Tally> {
    let counters = dataplane.counters()?;
    let read = |cell| Ok((cell, counters.target(cell)?));
    let readings = (0..dataplane.capacity().target_cells()).map(read);
    Ok(Tally::after(readings.collect::<Result<Vec<_>>>()?))
}
