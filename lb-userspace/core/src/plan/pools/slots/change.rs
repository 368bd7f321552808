//! What becomes of each slot when a pool's owners change.

use std::{sync::Arc, time::Instant};

use lb_common::abi::Slot;

use super::{LentSlot, MigratingSlot, SlotTable};
use crate::plan::pools::pool::FlowFate;

/// How the flows of a pool are looked after.
#[derive(Clone, Copy, Debug)]
pub(in crate::plan) struct Care {
    /// Flows stay with the previous owner of a slot that moves.
    pub(in crate::plan) tracked: bool,
    /// A flow's first packet says that it is the first, as in TCP and SCTP.
    pub(in crate::plan) sees_opens: bool,
    /// Every slot that moves is lent, since the only change is that backends went out or came back.
    pub(in crate::plan) lends: bool,
}

/// What a change of slots must know of their owners. Owners are indexes of cells.
pub(in crate::plan) trait Owners {
    /// The cell that a present owner has from now on; `None` if it has none.
    fn now_at(&self, owner: u32) -> Option<u32>;
    /// Whether every owner that stays keeps its cell.
    fn stay(&self) -> bool;
    /// What becomes of the flows of the backend in that cell, which [`Owners::now_at`] gave.
    fn flows(&self, owner: u32) -> FlowFate;
    /// Whether the backend in that cell is out, and wanted back.
    fn is_away(&self, owner: u32) -> bool;
}

impl SlotTable {
    /// These slots with the owners of `wanted`, whose slots have no flags. Where a slot moves, its flows stay with the
    /// previous owner if they are tracked.
    pub(in crate::plan) fn changed(
        &self,
        wanted: &[Slot],
        owners: &impl Owners,
        care: Care,
        now: Instant,
    ) -> Self {
        let mut current: Arc<[Slot]> = Arc::from(&self.current[..]);
        // Nobody else has it yet.
        let new = Arc::make_mut(&mut current);
        // Copied with the first entry that changes.
        let mut previous = Arc::clone(&self.previous);
        let (mut migrating, mut lent) = (Vec::new(), Vec::new());
        let mut known = self.migrating.iter().peekable();
        let mut loans = self.lent.iter().peekable();
        let stay = owners.stay();
        for (i, next) in wanted.iter().enumerate() {
            let loan = loans.next_if(|entry| entry.slot == i as u32);
            if stay && self.current[i] == *next && loan.is_none() {
                // The slot is stable and stays as it is: so are almost all slots, almost always.
                continue;
            }
            let known = known.next_if(|entry| entry.slot == i as u32);
            let change = self.change(i, *next, loan, owners, care, now);
            new[i] = next.with_flag(change.is_migrating);
            let past = if change.is_migrating || change.past.is_lent() {
                change.past
            } else if self.previous[i].is_lent() {
                *next
            } else {
                self.previous[i]
            };
            if past != self.previous[i] {
                Arc::make_mut(&mut previous)[i] = past;
            }
            if change.is_migrating {
                let since = known
                    .filter(|_| change.same_window)
                    .map_or(now, |entry| entry.since);
                migrating.push(MigratingSlot {
                    slot: i as u32,
                    since,
                });
            }
            lent.extend(change.loan);
        }
        Self {
            current,
            previous,
            migrating: migrating.into(),
            lent: lent.into(),
        }
    }

    /// What becomes of slot `i`, whose next owner is that of `next`.
    fn change(
        &self,
        i: usize,
        next: Slot,
        loan: Option<&LentSlot>,
        owners: &impl Owners,
        care: Care,
        now: Instant,
    ) -> SlotChange {
        let (slot, before) = (self.current[i], self.previous[i]);
        let lives = |owner: &u32| owners.flows(*owner) != FlowFate::Cut;
        let was = slot.owner().and_then(|owner| owners.now_at(owner));
        let moves = was != next.owner();
        let asked = slot.is_migrating() && !before.is_lent();
        let loan = match loan {
            Some(loan) => loan.moved(owners),
            None => was
                .filter(|owner| moves && (care.lends || owners.is_away(*owner)))
                .map(|home| LentSlot {
                    slot: i as u32,
                    home: home as u16,
                    before: before
                        .owner()
                        .filter(|_| asked)
                        .and_then(|owner| owners.now_at(owner))
                        .map(|owner| owner as u16),
                    since: now,
                }),
        };
        let (returned, loan) = match loan {
            Some(loan) if next.owner() == Some(u32::from(loan.home)) => (Some(loan), None),
            // The loan's time begins when a backend stands in: until then no flows are in the way.
            Some(loan) if was.is_none() && moves => (None, Some(LentSlot { since: now, ..loan })),
            loan => (None, loan),
        };
        let had = match (slot.is_migrating(), before.is_lent()) {
            (false, _) => slot.owner(),
            (true, false) => before.owner(),
            // Flows that were seen to open with the borrower are in the flow table; all others are the home's.
            (true, true) => slot
                .owner()
                .filter(|_| !care.sees_opens || returned.is_none() && loan.is_none()),
        };
        let alive = had
            .and_then(|owner| owners.now_at(owner))
            .filter(lives)
            .or_else(|| returned.or(loan)?.before.map(u32::from).filter(lives));
        let is_out = |loan: &LentSlot| !lives(&u32::from(loan.home));
        let is_asked = care.tracked && (slot.is_migrating() || moves);
        // A backend may stand in that owned the slot before. Unknown flows are its own either way, but flows that open
        // there must be written down.
        let stands_in = care.sees_opens && loan.as_ref().is_some_and(is_out);
        let (alive, itself) = if stands_in && alive == next.owner() {
            (None, alive)
        } else {
            (alive, None)
        };
        let loan = loan.map(|loan| LentSlot {
            before: itself.map(|owner| owner as u16).or(loan.before),
            ..loan
        });
        if let Some(owner) = alive.filter(|_| is_asked) {
            return SlotChange {
                past: Slot::owned_by(owner as u16),
                is_migrating: true,
                same_window: !moves,
                loan,
            };
        }
        // Flows here are in the flow table, or in none if nobody looked when they opened.
        let looks = care.sees_opens && loan.is_some() && moves;
        let asks = slot.is_migrating() || next.owner().is_some() && (returned.is_some() || looks);
        SlotChange {
            past: loan
                .filter(is_out)
                .map_or(next, |loan| Slot::owned_by(loan.home).with_flag(true)),
            is_migrating: care.tracked && asks,
            same_window: !moves && (before.is_lent() || self.is_over(i as u32)),
            loan,
        }
    }
}

/// What becomes of one slot.
struct SlotChange {
    /// The entry of map `PREVIOUS`: the previous owner, or the home.
    past: Slot,
    is_migrating: bool,
    /// Whether the slot's present window goes on.
    same_window: bool,
    loan: Option<LentSlot>,
}

impl LentSlot {
    /// This loan, by the cells that owners have from now on; `None` if the home is not wanted back any more.
    fn moved(&self, owners: &impl Owners) -> Option<Self> {
        let now_at = |owner: u16| owners.now_at(u32::from(owner));
        let home = now_at(self.home)?;
        let is_wanted = owners.is_away(home) || owners.flows(home) != FlowFate::Cut;
        is_wanted.then_some(Self {
            home: home as u16,
            before: self.before.and_then(now_at).map(|owner| owner as u16),
            ..*self
        })
    }
}
