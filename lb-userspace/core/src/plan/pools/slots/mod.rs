//! A pool's slots as packets see them: who owns each slot, who owned it before, and how long the past matters.
//!
//! A slot whose owner changes is *migrating* for a while: packets of flows that are in no table ask for its previous
//! owner. A slot is *lent* while its owner is out and expected back; the owner is then the slot's *home*.
//!
//! Invariant: as long as packets may ask for a slot's previous owner, that owner is alive, and it is the owner from
//! before the first change of the window. Backends that owned the slot in between have their flows in the flow table.

mod change;
mod expiry;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Instant};

use lb_common::abi::Slot;

pub(in crate::plan) use change::{Care, Owners};

/// A slot whose owner has changed of late, so that packets may ask for its previous owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) struct MigratingSlot {
    /// Its number.
    pub(in crate::plan) slot: u32,
    /// When its owner changed last; once the window is over, when the window ended.
    pub(in crate::plan) since: Instant,
}

/// A slot whose owner went out, and which that owner gets back when it returns in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) struct LentSlot {
    /// Its number.
    pub(in crate::plan) slot: u32,
    /// The cell of the backend that gets it back.
    pub(in crate::plan) home: u16,
    /// The cell of a backend whose flows may be in no table: the previous owner, if the slot's window was open when the
    /// slot was lent, or the backend that stands in, if it owned the slot before.
    pub(in crate::plan) before: Option<u16>,
    /// When it was lent.
    pub(in crate::plan) since: Instant,
}

/// The slots of a pool.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) struct SlotTable {
    /// As in map `SLOTS`.
    pub(in crate::plan) current: Arc<[Slot]>,
    /// As in map `PREVIOUS`. An entry means something where `current` is migrating.
    pub(in crate::plan) previous: Arc<[Slot]>,
    /// The migrating slots, by number.
    pub(in crate::plan) migrating: Arc<[MigratingSlot]>,
    /// The lent slots, by number. `previous` holds the home ([`Slot::is_lent`]), unless flows have a living previous
    /// owner.
    pub(in crate::plan) lent: Arc<[LentSlot]>,
}

impl SlotTable {
    /// Slots without a past.
    pub(in crate::plan) fn new(owners: Arc<[Slot]>) -> Self {
        Self {
            previous: std::iter::repeat_n(Slot::NONE, owners.len()).collect(),
            current: owners,
            migrating: Arc::from([]),
            lent: Arc::from([]),
        }
    }

    /// How many slots there are.
    pub(in crate::plan) fn len(&self) -> usize {
        self.current.len()
    }

    /// This table repeated until it has that many slots, a multiple of the present number. Slots are chosen by the low
    /// bits of a hash, so every flow keeps its owner.
    pub(in crate::plan) fn grown_to(&self, slots: usize) -> Self {
        let old = self.len();
        let repeated = |table: &[Slot]| table.iter().copied().cycle().take(slots).collect();
        let migrating = (0..slots / old).flat_map(|copy| {
            self.migrating.iter().map(move |entry| MigratingSlot {
                slot: entry.slot + (copy * old) as u32,
                ..*entry
            })
        });
        let lent = (0..slots / old).flat_map(|copy| {
            self.lent.iter().map(move |entry| LentSlot {
                slot: entry.slot + (copy * old) as u32,
                ..*entry
            })
        });
        Self {
            current: repeated(&self.current),
            previous: repeated(&self.previous),
            migrating: migrating.collect(),
            lent: lent.collect(),
        }
    }

    /// Whether the window of a migrating slot is over. Flows that are not in the flow table then belong to the current
    /// owner.
    pub(in crate::plan) fn is_over(&self, slot: u32) -> bool {
        let slot = slot as usize;
        self.previous[slot].owner() == self.current[slot].owner()
    }
    /// The cell of the backend that gets that slot back, if flows that open there meanwhile are written down.
    pub(in crate::plan) fn awaited(&self, slot: u32) -> Option<u32> {
        let at = self.lent.binary_search_by_key(&slot, |entry| entry.slot).ok()?;
        let current = self.current[slot as usize];
        (current.is_migrating() || current.owner().is_none()).then(|| u32::from(self.lent[at].home))
    }

    /// Whether some slot is lent for a limited time. A slot that nobody owns stays its home's without limit.
    pub(in crate::plan) fn loans_run(&self) -> bool {
        let runs = |loan: &LentSlot| self.current[loan.slot as usize].owner().is_some();
        self.lent.iter().any(runs)
    }
}
