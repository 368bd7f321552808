//! Going on with the tables of an earlier agent, without a moment in which they lose what it knew: with those in the
//! kernel or, where that has lost them, with those of the checkpoint.
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

use super::{actor::persist::FoundCheckpoint, tally::Tally};
use crate::checkpoint::{SavedFlows, SavedState};
use crate::dataplane::{Dataplane, DataplaneSource, MappedTables};
use crate::netlink::{NextHops, Resolution, ResolverHandle};
use lb_core::plan::{self, BackendRef, Layout, Memory, Plan, ReadBack, apply};

/// How long to wait for ways that the kernel has lost meanwhile. Backends without one lose their slots after that, as
/// they do at any time.
const WAYS_FOUND: Duration = Duration::from_secs(3);

/// What the tables of an earlier agent say; nothing where there are none.
pub(super) struct Takeover {
    pub(super) layout: Layout,
    /// The generation that is in force.
    pub(super) generation: u64,
    /// The backends that packets may be sent to.
    pub(super) serving: HashSet<BackendRef>,
    /// The counters, which go on.
    pub(super) tally: Tally,
}

impl Takeover {
    /// Reads the tables back, or makes them again as the checkpoint has them.
    ///
    /// # Errors
    /// When those in the kernel are damaged; the message says what to do.
    pub(super) fn of(
        dataplane: &Dataplane,
        tables: &mut MappedTables,
        found: &mut FoundCheckpoint,
    ) -> Result<Self> {
        let (capacity, seed) = (dataplane.capacity(), dataplane.meta().seed);
        let (layout, tally) = match dataplane.origin() {
            DataplaneSource::New => {
                let layout = restored(dataplane, tables, found);
                (
                    layout.unwrap_or_else(|| Layout::new(capacity, seed)),
                    Tally::default(),
                )
            }
            DataplaneSource::Adopted => {
                let mut layout = Layout::adopt(capacity, seed, tables, Instant::now())?;
                if let Some(state) = found.state() {
                    layout.recall_histories(&state.tables);
                }
                (layout, tally(dataplane)?)
            }
        };
        Ok(Self {
            tally,
            generation: tables.read_control().generation,
            serving: layout.serving(tables),
            layout,
        })
    }

    /// Waits until the ways to all backends that own slots are known, for a few seconds at most.
    pub(super) async fn find_ways(
        &self,
        resolver: &ResolverHandle,
        hops: &mut watch::Receiver<NextHops>,
    ) -> Result<()> {
        let addresses: BTreeSet<IpAddr> = self
            .serving
            .iter()
            .map(|backend_ref| backend_ref.backend.address)
            .collect();
        if addresses.is_empty() {
            return Ok(());
        }
        resolver.set_addresses(addresses.clone())?;
        let known = |hops: &NextHops| {
            let way = |address| hops.get(address).is_some_and(Resolution::is_way);
            addresses.iter().all(way)
        };
        match timeout(WAYS_FOUND, hops.wait_for(known)).await {
            Ok(found) => drop(found?),
            Err(_) => log::warn!("not every backend that packets go to can be reached any more"),
        }
        Ok(())
    }
}

/// Makes the tables of the checkpoint again in empty ones, flows included; `None` where there are none, or they cannot
/// be made. Nothing is lost then but flows, so that it is no reason not to start.
fn restored(dataplane: &Dataplane, tables: &mut MappedTables, found: &mut FoundCheckpoint) -> Option<Layout> {
    let state = found.state().filter(|state| !state.tables.pools.is_empty())?;
    let (capacity, seed) = (dataplane.capacity(), dataplane.meta().seed);
    let Plan { layout, writes, .. } = Layout::restore(capacity, seed, &state.tables, Instant::now())
        .inspect_err(|error| {
            log::error!(
                "the slot tables of the checkpoint are not restored, connections that were open may break: {error}; \
                 `lb checkpoint verify` tells whether the file is good"
            );
        })
        .ok()?;
    let same_seed = says_whose_flows(state, seed);
    apply(&writes, tables);
    if same_seed && let Some((flows, remembered)) = found.take_flows() {
        restore_flows(dataplane, tables, &layout, &flows, &remembered);
    }
    Some(layout)
}

/// Whether flows have the slots that they had.
fn says_whose_flows(SavedState { tables, .. }: &SavedState, seed: u64) -> bool {
    let same = tables.seed == seed;
    if !same {
        log::warn!(
            "flows are not restored, connections that were open may break: the hash seed is {seed:#018x}, and was \
             {:#018x} when the checkpoint was written; leave --hash-seed and hash_seed out to keep it",
            tables.seed
        );
    }
    same
}

fn restore_flows(
    dataplane: &Dataplane,
    tables: &mut MappedTables,
    layout: &Layout,
    flows: &SavedFlows,
    remembered: &plan::LayoutSnapshot,
) {
    let now = match dataplane.flow_time() {
        Ok(time) => time.now,
        Err(error) => return log::error!("flows are not restored: {error:#}"),
    };
    let entries = flows.entries.iter().copied();
    let (mut kept, mut no_room) = (0_usize, 0_usize);
    for (key, value) in remembered.flows(layout, flows.clock, now, entries) {
        if tables.insert_flow(key, value) {
            kept += 1;
        } else {
            no_room += 1;
        }
    }
    log::info!("restored the slot tables of the checkpoint, and {kept} flows");
    if no_room > 0 {
        log::warn!("{no_room} flows had no room in the flow table: raise `max_flows` and restart");
    }
}

fn tally(dataplane: &Dataplane) -> Result<Tally> {
    let counters = dataplane.counters()?;
    let read = |cell| Ok((cell, counters.target(cell)?));
    let readings = (0..dataplane.capacity().target_cells()).map(read);
    Ok(Tally::after(readings.collect::<Result<Vec<_>>>()?))
}
