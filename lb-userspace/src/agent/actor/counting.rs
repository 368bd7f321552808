//! How the agent reads what the program has counted for each backend.

use std::time::Instant;

use crate::agent::actor::Actor;
use lb_core::plan::BackendRef;

impl Actor {
    /// Reads the counters of all targets in use.
    pub(in crate::agent) fn sample(&mut self) {
        let layout = &self.parts.layout;
        let end = layout.owners().map(|(cell, _)| cell + 1).max().unwrap_or(0);
        let counters = self.parts.dataplane.counters();
        let counts = match counters.and_then(|counters| counters.targets(end)) {
            Ok(counts) => counts,
            Err(error) => return log::error!("cannot read the counters: {error:#}"),
        };
        let readings = layout
            .owners()
            .filter_map(|(cell, backend_ref)| Some((cell, backend_ref, *counts.get(cell as usize)?)));
        self.tally.take(readings, Instant::now());
    }

    /// Reads the counters of these cells, for the backends that they belong to.
    pub(super) fn sample_cells(&mut self, cells: &[(u32, BackendRef)]) {
        if cells.is_empty() {
            return;
        }
        let counters = match self.parts.dataplane.counters() {
            Ok(counters) => counters,
            Err(error) => return log::error!("cannot read the counters: {error:#}"),
        };
        let mut readings = Vec::with_capacity(cells.len());
        for (cell, backend_ref) in cells {
            match counters.target(*cell) {
                Ok(count) => readings.push((*cell, backend_ref.clone(), count)),
                Err(error) => log::error!("cannot read the counter of target {cell}: {error:#}"),
            }
        }
        self.tally.add(readings);
    }
}
