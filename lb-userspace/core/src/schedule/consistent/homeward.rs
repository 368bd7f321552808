//! Ways home: the next table while slots are lent, because their owners went out and may come back.
//!
//! What must hold: every member has its weighted share, rounded down or up, as with `consistent`; and once everybody is
//! back whose slots were lent, the table is the one from before, slot for slot.

use super::{Draft, FREE, heirs, scattered};
use crate::schedule::{Last, Member, maglev::maglev, quotas::quotas};

/// The owner of each slot as an index into `members`; `None` when no member has any weight. `homes` says of the last
/// table's slots whom they belong to when everybody is back, as indices into its names; out of range means nobody.
///
/// Members get their own slots first, then keep what they were lent, as far as their shares go. What is left is handed
/// out as `consistent` does.
pub fn homeward(last: &Last<'_>, homes: &[u16], members: &[Member], slots: u32) -> Option<Vec<u16>> {
    let heirs = heirs(last.ids, members);
    let heir = |table: &[u16], slot: u32| {
        let owner = table.get(slot as usize % table.len().max(1));
        let heir = owner.and_then(|owner| heirs.get(usize::from(*owner)));
        heir.copied().unwrap_or(FREE)
    };
    let desired: Vec<(u16, u16)> = (0..slots)
        .map(|slot| (heir(homes, slot), heir(last.owners, slot)))
        .collect();
    let (mut at_home, mut held) = (vec![0_u32; members.len()], vec![0_u32; members.len()]);
    for (home, holder) in &desired {
        for (counts, member) in [(&mut at_home, home), (&mut held, holder)] {
            if let Some(count) = counts.get_mut(usize::from(*member)) {
                *count += 1;
            }
        }
    }
    if at_home.iter().chain(&held).all(|count| *count == 0) {
        return maglev(members, slots);
    }
    let preferred = |member: usize, floor| (at_home[member] > floor, held[member] > floor);
    let quotas = quotas(members, slots, preferred)?;
    let mut draft = Draft {
        owners: vec![FREE; slots as usize],
        held: vec![0; members.len()],
        free: Vec::new(),
    };
    // Who is at home stays there before anybody moves.
    draft.take(&quotas, |slot| {
        let (home, holder) = desired[slot];
        if home == holder { home } else { FREE }
    });
    draft.take(&quotas, |slot| desired[slot].0);
    draft.take(&quotas, |slot| desired[slot].1);
    let is_free = |slot: &u32| draft.owners[*slot as usize] == FREE;
    draft.free = (0..slots).map(|i| scattered(i, slots)).filter(is_free).collect();
    draft.fill(members, &quotas);
    Some(draft.owners)
}

impl Draft {
    /// Gives slots that nobody has to the members that `whom` names, as far as their quotas go.
    fn take(&mut self, quotas: &[u32], whom: impl Fn(usize) -> u16) {
        let slots = self.owners.len() as u32;
        for slot in (0..slots).map(|i| scattered(i, slots) as usize) {
            let member = usize::from(whom(slot));
            let Some(quota) = quotas.get(member).filter(|_| self.owners[slot] == FREE) else {
                continue;
            };
            if self.held[member] < *quota {
                self.held[member] += 1;
                self.owners[slot] = member as u16;
            }
        }
    }
}
