//! The writes that fill and change pools, in an order that is safe for packets.

use std::sync::Arc;

use super::placed_pool::{Cell, PlacedPool};
use crate::plan::{
    pools::slots::SlotTable,
    tables::{target::TargetCell, write::Write},
};

/// Writes for pools, by their place in the order in which packets may see them.
#[derive(Default)]
pub(in crate::plan) struct PoolWrites {
    pub(in crate::plan) targets: Vec<Write>,
    pub(in crate::plan) previous: Vec<Write>,
    /// Flows that are known again. They come before slots, by which packets ask for them.
    pub(in crate::plan) flows: Vec<Write>,
    pub(in crate::plan) slots: Vec<Write>,
}

impl PoolWrites {
    /// All writes, in order.
    pub(super) fn into_order(self) -> Vec<Write> {
        let Self {
            targets,
            previous,
            flows,
            slots,
        } = self;
        let mut all = targets;
        let flags_follow = !previous.is_empty() && !slots.is_empty();
        all.extend(previous);
        if flags_follow && cfg!(not(target_arch = "x86_64")) {
            // Where loads may pass one another, a packet could find the flag and an older previous owner. A packet reads
            // without a barrier, so the writer waits until no packet is between the two reads.
            all.push(Write::Wait);
        }
        all.extend(flows);
        all.extend(slots);
        all
    }

    /// Adds all that a pool in new cells needs.
    pub(in crate::plan) fn fill(&mut self, placed: &PlacedPool) {
        let PlacedPool {
            targets,
            cells,
            slot_lines,
            slots,
            ..
        } = placed;
        for (local, cell) in cells.iter().enumerate() {
            let entry = match cell {
                Cell::Owned(_, entry) => *entry,
                // A flow may still name the cell, and must not meet the backend that had its place in the map before.
                Cell::Cooling(_) => TargetCell::default(),
                Cell::Free => continue,
            };
            let index = targets.start + local as u32;
            self.targets.push(Write::Target { index, entry });
        }
        self.previous.push(Write::Previous {
            line: slot_lines.start,
            slots: Arc::clone(&slots.previous),
        });
        self.slots.push(Write::Slots {
            line: slot_lines.start,
            slots: Arc::clone(&slots.current),
        });
    }

    /// Adds what leads from the slots that lie at `line` to others. Previous owners come first, so that no packet finds
    /// a flag without a previous owner.
    pub(in crate::plan) fn add_slots(&mut self, line: u32, from: &SlotTable, to: &SlotTable) {
        if from.previous != to.previous {
            self.previous.push(Write::Previous {
                line,
                slots: Arc::clone(&to.previous),
            });
        }
        if from.current != to.current {
            self.slots.push(Write::Slots {
                line,
                slots: Arc::clone(&to.current),
            });
        }
    }
}
