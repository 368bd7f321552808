//! What time does to slots: windows and loans end, and migrating slots become stable.

use std::{sync::Arc, time::Instant};

use super::{LentSlot, MigratingSlot, SlotTable};

impl SlotTable {
    /// This table without the windows that end now; `None` if none ends. `ends` says so of a window by the slot's previous
    /// owner and the time since when the window runs.
    pub(in crate::plan) fn with_windows_ended(
        &self,
        now: Instant,
        ends: impl Fn(u32, Instant) -> bool,
    ) -> Option<Self> {
        let is_lent = |slot| {
            self.lent
                .binary_search_by_key(&slot, |entry: &LentSlot| entry.slot)
                .is_ok()
        };
        let over = |entry: &MigratingSlot| {
            !self.is_over(entry.slot)
                && !is_lent(entry.slot)
                && self.previous[entry.slot as usize]
                    .owner()
                    .is_none_or(|owner| ends(owner, entry.since))
        };
        if !self.migrating.iter().any(over) {
            return None;
        }
        let mut previous = self.previous.to_vec();
        let ended = |entry: &MigratingSlot| {
            if !over(entry) {
                return *entry;
            }
            previous[entry.slot as usize] = self.current[entry.slot as usize].with_flag(false);
            MigratingSlot { since: now, ..*entry }
        };
        let migrating = self.migrating.iter().map(ended).collect();
        Some(Self {
            current: Arc::clone(&self.current),
            previous: previous.into(),
            migrating,
            lent: Arc::clone(&self.lent),
        })
    }

    /// This table without the loans that end now; `None` if none ends. `ends` says so by the time since when a slot is
    /// lent. A slot that nobody owns stays its home's.
    pub(in crate::plan) fn with_loans_ended(
        &self,
        now: Instant,
        ends: impl Fn(Instant) -> bool,
    ) -> Option<Self> {
        let over = |loan: &LentSlot| self.current[loan.slot as usize].owner().is_some() && ends(loan.since);
        if !self.lent.iter().any(over) {
            return None;
        }
        let mut previous = self.previous.to_vec();
        let mut migrating = self.migrating.to_vec();
        for LentSlot { slot, .. } in self.lent.iter().filter(|loan| over(loan)) {
            let before = &mut previous[*slot as usize];
            if before.is_lent() {
                *before = self.current[*slot as usize].with_flag(false);
                if let Ok(at) = migrating.binary_search_by_key(slot, |entry| entry.slot) {
                    migrating[at].since = now;
                }
            }
        }
        Some(Self {
            current: Arc::clone(&self.current),
            previous: previous.into(),
            migrating: migrating.into(),
            lent: self.lent.iter().copied().filter(|loan| !over(loan)).collect(),
        })
    }

    /// This table with those migrating slots made stable that are `settled`; `None` if none is.
    pub(in crate::plan) fn with_flags_cleared(
        &self,
        settled: impl Fn(&MigratingSlot) -> bool,
    ) -> Option<Self> {
        if !self.migrating.iter().any(&settled) {
            return None;
        }
        let mut current = self.current.to_vec();
        let (stable, migrating): (Vec<MigratingSlot>, Vec<MigratingSlot>) =
            self.migrating.iter().partition(|entry| settled(entry));
        for entry in stable {
            let slot = &mut current[entry.slot as usize];
            *slot = slot.with_flag(false);
        }
        Some(Self {
            current: current.into(),
            previous: Arc::clone(&self.previous),
            migrating: migrating.into(),
            lent: Arc::clone(&self.lent),
        })
    }
}
